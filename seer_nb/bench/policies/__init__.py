"""How good policies are for their money: every one on the same curves, deadlines, budgets and seeds."""
