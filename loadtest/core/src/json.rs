//! JSON objects, written as they are made.

use std::fmt::Write;

/// An object.
#[derive(Clone, Debug, Default)]
pub struct Object(String);

impl Object {
    /// Return an empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn member(mut self, name: &str, value: &str) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
        self
    }

    /// Add a string without anything to escape but quotes.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.member(name, &format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
    }

    /// Add a whole number.
    #[must_use]
    pub fn integer(self, name: &str, value: u64) -> Self {
        self.member(name, &value.to_string())
    }

    /// Add a number with two decimals.
    #[must_use]
    pub fn number(self, name: &str, value: f64) -> Self {
        self.member(name, &format!("{value:.2}"))
    }

    /// Add a truth value.
    #[must_use]
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.member(name, if value { "true" } else { "false" })
    }

    /// Add a list of whole numbers.
    #[must_use]
    pub fn list(self, name: &str, values: &[u64]) -> Self {
        let values: Vec<String> = values.iter().map(u64::to_string).collect();
        self.member(name, &format!("[{}]", values.join(",")))
    }

    /// Add an object.
    #[must_use]
    pub fn object(self, name: &str, value: Self) -> Self {
        let value = value.line();
        self.member(name, &value)
    }

    /// Return the object as one line.
    #[must_use]
    pub fn line(self) -> String {
        format!("{{{}}}", self.0)
    }
}
