"""The neighbouring systems' methods, each in a module or package of its own."""
