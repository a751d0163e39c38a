//! Just enough JSON to read frames in place: members of objects and items of arrays as they stand in
//! the text, without building anything.

use memchr::memchr2;

use super::Problem;

/// What is wrong with JSON, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JsonError {
    pub(super) at: usize,
    pub(super) reason: &'static str,
}

impl JsonError {
    pub(super) fn problem(self) -> Problem {
        Problem::Json { reason: self.reason.to_owned() }
    }
}

/// A key without quotes, and a value as it stands.
pub(super) type Member<'text> = (&'text [u8], &'text [u8]);

const CUT_OFF: &str = "it ends in the middle";

/// Reads `{"key": value, ...}` from a text, member by member.
#[derive(Debug)]
pub(super) struct Object<'text> {
    items: Items<'text>,
}

/// Reads `[value, ...]` from a text, item by item.
#[derive(Debug)]
pub(super) struct Array<'text> {
    items: Items<'text>,
}

#[derive(Debug)]
struct Items<'text> {
    text: &'text [u8],
    at: usize,
    close: u8,
    is_first: bool,
}

impl<'text> Object<'text> {
    /// The object that begins at `at`, or behind blank space there.
    pub(super) fn open(text: &'text [u8], at: usize) -> Result<Self, JsonError> {
        Ok(Self { items: Items::open(text, at, b'{', b'}', "an object should begin here")? })
    }

    /// The next member: its key without quotes, its value as it stands. None behind the last.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Member<'text>>, JsonError> {
        let Items { text, .. } = self.items;
        if !self.items.advance()? {
            return Ok(None);
        }
        let start = self.items.at;
        if text.get(start) != Some(&b'"') {
            return Err(error(text, start, "a name in quotes should be here"));
        }
        let end = string_end(text, start)?;
        let colon = blank_end(text, end);
        if text.get(colon) != Some(&b':') {
            return Err(error(text, colon, "a colon should be here"));
        }
        let value = blank_end(text, colon + 1);
        self.items.at = value_end(text, value)?;
        Ok(Some((&text[start + 1..end - 1], &text[value..self.items.at])))
    }

    /// The byte behind the object, once [`Object::next`] has given None.
    pub(super) const fn end(&self) -> usize {
        self.items.at
    }
}

impl<'text> Array<'text> {
    /// The array that begins at `at`, or behind blank space there.
    pub(super) fn open(text: &'text [u8], at: usize) -> Result<Self, JsonError> {
        Ok(Self { items: Items::open(text, at, b'[', b']', "an array should begin here")? })
    }

    /// The next item as it stands. None behind the last.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<&'text [u8]>, JsonError> {
        let Items { text, .. } = self.items;
        if !self.items.advance()? {
            return Ok(None);
        }
        let start = self.items.at;
        self.items.at = value_end(text, start)?;
        Ok(Some(&text[start..self.items.at]))
    }
}

impl<'text> Items<'text> {
    fn open(
        text: &'text [u8],
        at: usize,
        open: u8,
        close: u8,
        reason: &'static str,
    ) -> Result<Self, JsonError> {
        let at = blank_end(text, at);
        if text.get(at) == Some(&open) {
            Ok(Self { text, at: at + 1, close, is_first: true })
        } else {
            Err(error(text, at, reason))
        }
    }

    /// Goes to the start of the next item, or behind the end; then returns false.
    #[inline]
    fn advance(&mut self) -> Result<bool, JsonError> {
        let at = blank_end(self.text, self.at);
        let next = self.text.get(at).copied();
        if next == Some(self.close) {
            self.at = at + 1;
            return Ok(false);
        }
        self.at = match (self.is_first, next) {
            (true, _) => at,
            (false, Some(b',')) => blank_end(self.text, at + 1),
            (false, _) => return Err(error(self.text, at, "a comma should be here")),
        };
        self.is_first = false;
        Ok(true)
    }
}

/// `raw` without its quotes, if it has any.
#[inline]
pub(super) fn unquoted(raw: &[u8]) -> &[u8] {
    match raw {
        [b'"', text @ .., b'"'] => text,
        _ => raw,
    }
}

#[cold]
fn error(text: &[u8], at: usize, reason: &'static str) -> JsonError {
    JsonError { at, reason: if at >= text.len() { CUT_OFF } else { reason } }
}

/// The first byte from `at` on that is not blank.
#[inline]
pub(super) fn blank_end(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// The byte behind the string that begins at `start`.
#[inline]
fn string_end(text: &[u8], start: usize) -> Result<usize, JsonError> {
    let mut at = start + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(JsonError { at: start, reason: CUT_OFF })
}

/// The byte behind the value that begins at `start`. Inside brackets only strings and the balance of
/// brackets are looked at; who reads the inside looks closer.
#[inline]
fn value_end(text: &[u8], start: usize) -> Result<usize, JsonError> {
    match text.get(start) {
        Some(b'"') => string_end(text, start),
        Some(b'{' | b'[') => {
            let mut depth = 0usize;
            let mut at = start;
            while let Some(&byte) = text.get(at) {
                match byte {
                    b'"' => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Ok(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            Err(JsonError { at: start, reason: CUT_OFF })
        }
        Some(b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
            let length = text[start..]
                .iter()
                .position(|byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte)));
            length
                .map_or(Err(JsonError { at: start, reason: CUT_OFF }), |length| Ok(start + length))
        }
        _ => Err(error(text, start, "a value should be here")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(text: &str) -> Result<Vec<(String, String)>, JsonError> {
        let text = text.as_bytes();
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut object = Object::open(text, 0)?;
        let mut members = Vec::new();
        while let Some((key, value)) = object.next()? {
            members.push((string(key), string(value)));
        }
        Ok(members)
    }

    #[test]
    fn members_are_given_as_they_stand() {
        let text = r#" { "a" : 1, "b":"x\"}", "c":[{"d":"]"},[]] , "e":null} "#;
        let given = members(text).unwrap();
        let expected = [("a", "1"), ("b", r#""x\"}""#), ("c", r#"[{"d":"]"},[]]"#), ("e", "null")];
        assert_eq!(given, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(members("{}").unwrap(), []);
    }

    #[test]
    fn half_a_frame_is_told_from_garbage() {
        let reason = |text: &str| members(text).unwrap_err().reason;
        for text in [r#"{"#, r#"{"a"#, r#"{"a":"#, r#"{"a":[1,"#, r#"{"a":1"#, r#"{"a":1,"#] {
            assert_eq!(reason(text), CUT_OFF, "{text}");
        }
        assert_eq!(reason("garbage"), "an object should begin here");
        assert_eq!(reason(r#"{"a" 1}"#), "a colon should be here");
        assert_eq!(reason(r#"{"a":1 "b":2}"#), "a comma should be here");
        assert_eq!(reason(r#"{a:1}"#), "a name in quotes should be here");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\":,a1\\\\ ]{0,30}") {
            let _ = members(&text);
            let _ = members(&format!("{{{text}"));
        }

        #[test]
        fn an_object_that_a_library_writes_is_read_back(
            pairs in prop::collection::vec(("[a-z]{1,4}", "\\PC{0,8}"), 0..6),
        ) {
            let text: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("\"{key}\":{}", serde_json::to_string(value).unwrap()))
                .collect();
            let given = members(&format!("{{{}}}", text.join(","))).unwrap();
            let expected: Vec<(String, String)> = pairs
                .into_iter()
                .map(|(key, value)| (key, serde_json::to_string(&value).unwrap()))
                .collect();
            prop_assert_eq!(given, expected);
        }
    }
}
