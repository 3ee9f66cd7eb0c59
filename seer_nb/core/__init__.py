"""Sans-IO: records, money, planning and the engine. No clock, thread, file, socket or global random state."""
