//! Sockets in memory and in virtual time.
