//! What a client is told when it does not get what it asked for: a status of HTTP, a code, a text.

use serde_json::{Value, json};

/// A refusal, or an answer that says nothing about what has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status of HTTP.
    pub status: u16,
    /// The code, below zero.
    pub code: i32,
    /// The text.
    pub message: String,
}

impl ApiError {
    /// A bad request.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into() }
    }

    /// The same under another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// -1002: this exchange cannot do that, or may not just now.
    pub fn unsupported(what: &str) -> Self {
        Self::new(-1002, format!("You are not authorized to execute this request: {what}."))
            .with_status(401)
    }

    /// -1003 with the status 429, or 418 for who went on.
    pub fn too_many(status: u16) -> Self {
        let message = if status == 418 {
            "Way too much request weight used; IP banned."
        } else {
            "Too much request weight used; please use WebSocket Streams to avoid polling the API."
        };
        Self::new(-1003, message).with_status(status)
    }

    /// The usual text of a code, for errors that are made on command.
    pub fn of_code(code: i32, status: u16) -> Self {
        let message = match code {
            -1000 => "An unknown error occurred while processing the request.",
            -1001 => "Internal error; unable to process your request. Please try again.",
            -1003 => return Self::too_many(status),
            -1006 => {
                "An unexpected response was received from the message bus. Execution status unknown."
            }
            -1007 => {
                "Timeout waiting for response from backend server. Send status unknown; execution \
                 status unknown."
            }
            -1008 => {
                "Server is currently overloaded with other requests. Please try again in a few \
                 minutes."
            }
            -1013 => "Filter failure: PRICE_FILTER",
            -1015 => "Too many new orders.",
            -1021 => "Timestamp for this request is outside of the recvWindow.",
            -2010 => "Account has insufficient balance for requested action.",
            -2011 => "Unknown order sent.",
            -2013 => "Order does not exist.",
            -2015 => "Invalid API-key, IP, or permissions for action.",
            _ => "Refused on command.",
        };
        Self::new(code, message).with_status(status)
    }

    /// -1102.
    pub fn missing(name: &str) -> Self {
        Self::new(
            -1102,
            format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed."),
        )
    }

    /// -1013.
    pub fn filter(name: &str) -> Self {
        Self::new(-1013, format!("Filter failure: {name}"))
    }

    /// -2010.
    pub fn rejected(message: &str) -> Self {
        Self::new(-2010, message)
    }

    /// As a client reads it.
    pub fn body(&self) -> Value {
        json!({ "code": self.code, "msg": self.message })
    }
}
