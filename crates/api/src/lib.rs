//! Wire contract of operators, and a thin client.
