"""The embedded exchange: bus and services as children with one data folder, for `clob up`, demo and tests."""
