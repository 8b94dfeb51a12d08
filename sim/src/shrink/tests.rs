//! A guard's failure shrinks to what a person can read, and goes wrong for the same reason.
