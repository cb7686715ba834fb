//! Control's database and its migrations.
