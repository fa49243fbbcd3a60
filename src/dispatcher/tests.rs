//! Dispatchers one room of which fails, against a real server: the room's work is replaced by one that panics or returns.
