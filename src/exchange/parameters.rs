//! The parameters of a request: query and body together, and what of them is signed.

use std::collections::BTreeMap;

use super::amount::{Amount, AmountError};
use super::error::ApiError;

/// Most parameters of one request.
const PARAMETERS_MAX: usize = 64;

/// What is sent beside what the endpoint asks for.
const COMMON: [&str; 4] = ["timestamp", "recvWindow", "signature", "session"];

/// What amounts look like.
const AMOUNT_PATTERN: &str = "^([0-9]{1,20})(\\.[0-9]{1,20})?$";

/// What ids of clients look like.
const ID_PATTERN: &str = "^[a-zA-Z0-9-_:./]{1,64}$";

/// The parameters of a request, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads query and body; where both have a parameter, the query holds.
    ///
    /// # Errors
    ///
    /// -1101 where one is there twice or there are too many, -1100 where one is not text.
    pub fn parse(query: &str, body: &str) -> Result<Self, ApiError> {
        let mut all = read(query)?;
        for (name, value) in read(body)? {
            all.entry(name).or_insert(value);
        }
        if all.len() > PARAMETERS_MAX {
            let message = format!(
                "Too many parameters; expected '{PARAMETERS_MAX}' and received '{}'.",
                all.len()
            );
            return Err(ApiError::new(-1101, message));
        }
        Ok(Self(all))
    }

    /// A parameter that may be absent, but not empty.
    ///
    /// # Errors
    ///
    /// -1105 where it is empty.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name).map(String::as_str) {
            Some("") => Err(ApiError::new(-1105, format!("Parameter '{name}' was empty."))),
            found => Ok(found),
        }
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    ///
    /// -1102 where it is not, -1105 where it is empty.
    pub fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)?.ok_or_else(|| ApiError::missing(name))
    }

    /// A whole number that may be absent.
    ///
    /// # Errors
    ///
    /// -1100 where it is none.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(illegal(name, "^[0-9]{1,20}$")),
        }
    }

    /// How many rows are wanted.
    ///
    /// # Errors
    ///
    /// -1100 where it is no number.
    pub fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let limit = self.number("limit")?;
        Ok(limit.map_or(default, |limit| usize::try_from(limit).unwrap_or(max).min(max)))
    }

    /// An amount that must be there.
    ///
    /// # Errors
    ///
    /// -1102, -1100 where it is none, -1111 where it has too many decimals.
    pub fn amount(&self, name: &str) -> Result<Amount, ApiError> {
        Amount::parse(self.required(name)?).map_err(|error| match error {
            AmountError::NotANumber => illegal(name, AMOUNT_PATTERN),
            AmountError::TooPrecise => {
                ApiError::new(-1111, format!("Parameter '{name}' has too much precision."))
            }
            AmountError::OutOfRange => {
                ApiError::new(-1108, format!("Parameter '{name}' overflowed."))
            }
        })
    }

    /// An id that a client gave, or nothing.
    ///
    /// # Errors
    ///
    /// -1100 where it has other characters than an id may have.
    pub fn client_id(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let Some(id) = self.text(name)? else { return Ok(None) };
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:./".contains(&byte);
        if id.len() <= 64 && id.bytes().all(is_allowed) {
            Ok(Some(id))
        } else {
            Err(illegal(name, ID_PATTERN))
        }
    }

    /// That nothing was sent beside `known`, what every signed request has, and `x-...`.
    ///
    /// # Errors
    ///
    /// -1104.
    pub fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        let is_known = |name: &str| known.contains(&name) || COMMON.contains(&name);
        let read = self.0.keys().filter(|name| is_known(name) || name.starts_with("x-")).count();
        if read == self.0.len() {
            return Ok(());
        }
        let sent = self.0.len();
        let message = format!(
            "Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
        );
        Err(ApiError::new(-1104, message))
    }

    /// That none of these was sent.
    ///
    /// # Errors
    ///
    /// -1106.
    pub fn without(&self, names: &[&str]) -> Result<(), ApiError> {
        match names.iter().find(|name| self.0.contains_key(**name)) {
            None => Ok(()),
            Some(name) => {
                Err(ApiError::new(-1106, format!("Parameter '{name}' sent when not required.")))
            }
        }
    }

    /// What was sent under names that begin with `x-`.
    pub fn extra(&self) -> BTreeMap<String, String> {
        let extra = self.0.iter().filter(|(name, _)| name.starts_with("x-"));
        extra.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn illegal(name: &str, pattern: &str) -> ApiError {
    let message =
        format!("Illegal characters found in parameter '{name}'; legal range is '{pattern}'.");
    ApiError::new(-1100, message)
}

fn read(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let mut all = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if all.insert(decode(name)?, decode(value)?).is_some() {
            return Err(ApiError::new(-1101, "Duplicate values for a parameter detected."));
        }
    }
    Ok(all)
}

/// Takes `%41` for `A`, and `+` for a space.
fn decode(text: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::new(-1100, "Illegal characters found in a parameter.");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = match (first, others) {
            (b'%', [high, low, others @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(wrong);
                let byte = digit(*high)? * 16 + digit(*low)?;
                bytes.push(u8::try_from(byte).map_err(|_| wrong())?);
                others
            }
            (b'%', _) => return Err(wrong()),
            (b'+', others) => {
                bytes.push(b' ');
                others
            }
            (byte, others) => {
                bytes.push(*byte);
                others
            }
        };
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// What of a request is signed, query and body one after the other without the signature, and the
/// signature.
pub fn signed(query: &str, body: &str) -> (String, Option<String>) {
    let mut signature = None;
    let mut part = |text: &str| {
        let mut rest: Vec<&str> = text.split('&').collect();
        rest.retain(|pair| match pair.strip_prefix("signature=") {
            Some(value) => {
                signature = Some(value.to_owned());
                false
            }
            None => true,
        });
        rest.join("&")
    };
    let text = part(query) + &part(body);
    (text, signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> i32 {
        result.unwrap_err().code
    }

    #[test]
    fn query_and_body_are_read_together_and_the_query_holds() {
        let all = Parameters::parse("a=1&b=%41%2b+", "b=2&c=3").unwrap();
        assert_eq!((all.required("a"), all.required("b")), (Ok("1"), Ok("A+ ")));
        assert_eq!(all.number("c"), Ok(Some(3)));
        assert_eq!(all.text("d"), Ok(None));
        assert_eq!(code(all.required("d")), -1102);
    }

    #[test]
    fn each_way_to_be_wrong_has_its_code() {
        let all = |query| Parameters::parse(query, "");
        assert_eq!(code(all("a=1&a=1")), -1101);
        assert_eq!(code(all("a=%4")), -1100);
        assert_eq!(code(all("a=%ff")), -1100);
        let many: Vec<String> = (0..65).map(|at| format!("p{at}=1")).collect();
        let many = many.join("&");
        assert_eq!(code(all(&many)), -1101);
        let all =
            all("price=1e5&quantity=0.000000001&empty=&big=9999999999&id=a%20b&n=-1").unwrap();
        assert_eq!(code(all.amount("price")), -1100);
        assert_eq!(code(all.amount("quantity")), -1111);
        assert_eq!(code(all.amount("big")), -1108);
        assert_eq!(code(all.text("empty")), -1105);
        assert_eq!(code(all.client_id("id")), -1100);
        assert_eq!(code(all.number("n")), -1100);
        assert_eq!(code(all.only(&["price"])), -1104);
        assert_eq!(code(all.without(&["price"])), -1106);
    }

    #[test]
    fn whatever_begins_with_x_may_be_sent_and_is_kept() {
        let all = Parameters::parse("symbol=A&x-node=n1&timestamp=1", "x-attempt=2").unwrap();
        assert_eq!(all.only(&["symbol"]), Ok(()));
        let extra = [("x-attempt".to_owned(), "2".to_owned()), ("x-node".into(), "n1".into())];
        assert_eq!(all.extra(), extra.into());
    }

    #[test]
    fn the_signature_is_taken_out_wherever_it_stands() {
        let of = |query, body| signed(query, body);
        assert_eq!(of("a=1&b=2&signature=ff", ""), ("a=1&b=2".into(), Some("ff".into())));
        assert_eq!(of("signature=ff&a=1", ""), ("a=1".into(), Some("ff".into())));
        assert_eq!(of("a=1", "b=2&signature=ff"), ("a=1b=2".into(), Some("ff".into())));
        assert_eq!(of("a=1", "b=2"), ("a=1b=2".into(), None));
        assert_eq!(of("&a=1&&signature=ff", ""), ("&a=1&".into(), Some("ff".into())), "as it is");
    }
}
