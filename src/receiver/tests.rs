//! The receiver, byte by byte.
