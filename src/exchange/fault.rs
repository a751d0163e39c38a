//! Faults on command: what goes wrong with which requests, how often, and when it is over.
//!
//! ```text
//! {"kind":"delay_before","endpoint":"POST /api/v3/order","ms":700,"probability":0.5,"count":3,"seed":1}
//! ```
//!
//! `before` is before the matching engine takes the request: then it may be late when it is taken, or never
//! be. `after` is after: what was taken stands, whatever the client is told.
//!
//! # Invariants
//!
//! 1. A fault strikes no more than `count` times, and not the first `skip` requests that it could.
//! 2. What strikes is a function of the faults, their seeds and the order of requests.

use serde::{Deserialize, Serialize};

use super::random::Random;

/// Most faults at once.
const FAULTS_MAX: usize = 256;

/// Longest delay, milliseconds.
const DELAY_MS_MAX: u64 = 600_000;

/// Most times that one request is taken again.
const TIMES_MAX: u32 = 100;

/// A fault as it is ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// What happens.
    pub kind: FaultKind,
    /// To which requests: `POST /api/v3/order`, `/api/v3/order` by whatever method, or `*`.
    #[serde(default = "every")]
    pub endpoint: String,
    /// How likely each time, from 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How often at most; without one, for ever.
    #[serde(default)]
    pub count: Option<u64>,
    /// How many requests are let through first.
    #[serde(default)]
    pub skip: u64,
    /// What chance is drawn from.
    #[serde(default)]
    pub seed: u64,
    /// Of delays and clocks: milliseconds; below zero a clock is behind.
    #[serde(default)]
    pub ms: i64,
    /// Of `repeat`: how often it is taken beyond the first time.
    #[serde(default = "once")]
    pub times: u32,
    /// Of errors: the status of HTTP.
    #[serde(default)]
    pub status: Option<u16>,
    /// Of errors and refusals: the code.
    #[serde(default)]
    pub code: Option<i32>,
    /// Of refusals: the text.
    #[serde(default)]
    pub message: Option<String>,
    /// Of `rate_limit`: what `Retry-After` says, seconds.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

fn every() -> String {
    "*".to_owned()
}

const fn certain() -> f64 {
    1.0
}

const fn once() -> u32 {
    1
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The request waits `ms` before it is taken.
    DelayBefore,
    /// It is taken, and the answer waits `ms`.
    DelayAfter,
    /// It is not taken and never answered.
    SilenceBefore,
    /// It is taken and never answered.
    SilenceAfter,
    /// It is taken again, `times` times, as if somebody on the way had sent it again; the last answer goes
    /// back.
    Repeat,
    /// It is not taken; the answer is an error of the server: 503 and -1008 unless told otherwise.
    ErrorBefore,
    /// It is taken; the answer is an error of the server: 504 and -1007 unless told otherwise.
    ErrorAfter,
    /// The connection ends before the request is read.
    DropBefore,
    /// It is taken, and the connection ends.
    DropAfter,
    /// It is refused: -2010 unless told otherwise.
    Refuse,
    /// It is told to come later: 429 and `Retry-After` of a second unless told otherwise.
    RateLimit,
    /// The clock is `ms` ahead, or behind, as long as the fault is there.
    Clock,
    /// The clock jumps by `ms` each time that it strikes.
    ClockJump,
    /// Of the stream: a message is lost.
    StreamLose,
    /// Of the stream: a message, and those behind it, wait `ms`.
    StreamDelay,
    /// Of the stream: a message comes twice.
    StreamDuplicate,
    /// Of the stream: the connection ends instead of a message.
    StreamDrop,
}

impl FaultKind {
    /// Whether it is one of the stream.
    pub const fn is_of_stream(self) -> bool {
        matches!(
            self,
            Self::StreamLose | Self::StreamDelay | Self::StreamDuplicate | Self::StreamDrop
        )
    }
}

/// Why a fault cannot be ordered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault: {0}")]
pub struct FaultError(String);

/// A fault that is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActiveFault {
    /// By which it can be taken away.
    pub id: u64,
    /// What was ordered.
    #[serde(flatten)]
    pub spec: FaultSpec,
    /// Requests that it could have struck.
    pub met: u64,
    /// Those that it struck.
    pub struck: u64,
    #[serde(skip)]
    random: Random,
}

/// All faults that are there.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    active: Vec<ActiveFault>,
    last_id: u64,
    /// Milliseconds that the clock has jumped.
    jumped: i64,
}

impl FaultSpec {
    /// Reads one from JSON.
    ///
    /// # Errors
    ///
    /// [`FaultError`], with what is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, FaultError> {
        let spec: Self =
            serde_json::from_slice(json).map_err(|error| FaultError(error.to_string()))?;
        let fail = |message: &str| Err(FaultError(message.to_owned()));
        if !(0.0..=1.0).contains(&spec.probability) {
            return fail("probability is from 0 to 1");
        }
        if spec.endpoint != "*" && !spec.endpoint.contains('/') {
            return fail("endpoint is `POST /api/v3/order`, `/api/v3/order` or `*`");
        }
        let is_clock = matches!(spec.kind, FaultKind::Clock | FaultKind::ClockJump);
        let bound = if is_clock { DELAY_MS_MAX.saturating_mul(144_000) } else { DELAY_MS_MAX };
        if spec.ms.unsigned_abs() > bound || (spec.ms < 0 && !is_clock) {
            return fail("ms is out of range");
        }
        if spec.times == 0 || spec.times > TIMES_MAX {
            return fail("times is from 1 to 100");
        }
        if spec.status.is_some_and(|status| !(400..=599).contains(&status)) {
            return fail("status is from 400 to 599");
        }
        Ok(spec)
    }

    fn is_meant(&self, method: &str, path: &str) -> bool {
        match self.endpoint.split_once(' ') {
            Some((of, at)) => of == method && at == path,
            None => self.endpoint == "*" || self.endpoint == path,
        }
    }
}

impl Faults {
    /// Adds one; returns its id.
    ///
    /// # Errors
    ///
    /// [`FaultError`] when there are too many.
    pub fn add(&mut self, spec: FaultSpec) -> Result<u64, FaultError> {
        if self.active.len() >= FAULTS_MAX {
            return Err(FaultError(format!("there are {FAULTS_MAX} already")));
        }
        self.last_id += 1;
        let random = Random::new(spec.seed, "fault");
        self.active.push(ActiveFault { id: self.last_id, spec, met: 0, struck: 0, random });
        Ok(self.last_id)
    }

    /// Takes one away, or all, with the clock's jumps; returns how many there were.
    pub fn clear(&mut self, id: Option<u64>) -> usize {
        let before = self.active.len();
        match id {
            Some(id) => self.active.retain(|fault| fault.id != id),
            None => {
                self.active.clear();
                self.jumped = 0;
            }
        }
        before - self.active.len()
    }

    /// What is there.
    pub fn active(&self) -> &[ActiveFault] {
        &self.active
    }

    /// The exchange's clock when the right time is `now`, in milliseconds.
    pub fn clock(&self, now: u64) -> u64 {
        let clocks = self.active.iter().filter(|fault| fault.spec.kind == FaultKind::Clock);
        let apart = clocks.fold(self.jumped, |sum, fault| sum.saturating_add(fault.spec.ms));
        now.saturating_add_signed(apart)
    }

    /// What strikes this request, in the order in which it was ordered.
    pub fn strike(&mut self, method: &str, path: &str) -> Vec<FaultSpec> {
        let struck = self.draw(|fault| {
            !fault.kind.is_of_stream()
                && fault.kind != FaultKind::Clock
                && fault.is_meant(method, path)
        });
        let jumps = struck.iter().filter(|fault| fault.kind == FaultKind::ClockJump);
        self.jumped = jumps.fold(self.jumped, |sum, fault| sum.saturating_add(fault.ms));
        struck
    }

    /// What strikes this message of a stream.
    pub fn strike_stream(&mut self) -> Vec<FaultSpec> {
        self.draw(|fault| fault.kind.is_of_stream())
    }

    fn draw(&mut self, is_meant: impl Fn(&FaultSpec) -> bool) -> Vec<FaultSpec> {
        let mut struck = Vec::new();
        for fault in self.active.iter_mut().filter(|fault| is_meant(&fault.spec)) {
            fault.met += 1;
            let is_over = fault.spec.count.is_some_and(|count| fault.struck >= count);
            if fault.met > fault.spec.skip
                && !is_over
                && fault.random.fraction() < fault.spec.probability
            {
                fault.struck += 1;
                struck.push(fault.spec.clone());
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> FaultSpec {
        FaultSpec::parse(json.as_bytes()).unwrap()
    }

    fn strikes(faults: &mut Faults, path: &str) -> usize {
        faults.strike("POST", path).len()
    }

    #[test]
    fn a_fault_strikes_what_it_is_meant_for_as_often_as_it_was_told() {
        let mut faults = Faults::default();
        let order = r#"{"kind":"drop_after","endpoint":"POST /order","count":2,"skip":1}"#;
        faults.add(fault(order)).unwrap();
        assert_eq!(strikes(&mut faults, "/time"), 0);
        assert!(faults.strike("GET", "/order").is_empty());
        let struck: Vec<usize> = (0..5).map(|_| strikes(&mut faults, "/order")).collect();
        assert_eq!(struck, [0, 1, 1, 0, 0]);
        assert_eq!((faults.active()[0].met, faults.active()[0].struck), (5, 2));
        assert_eq!(faults.clear(Some(7)), 0);
        assert_eq!(faults.clear(Some(1)), 1);
    }

    #[test]
    fn chance_follows_the_seed() {
        let draw = |seed: u64| {
            let mut faults = Faults::default();
            let spec = format!(r#"{{"kind":"refuse","probability":0.5,"seed":{seed}}}"#);
            faults.add(fault(&spec)).unwrap();
            let struck = (0..200).map(|_| strikes(&mut faults, "/"));
            struck.collect::<Vec<usize>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let count: usize = draw(1).iter().sum();
        assert!((60..140).contains(&count), "{count}");
    }

    #[test]
    fn the_clock_is_set_apart_while_the_fault_is_there_and_jumps_for_good() {
        let mut faults = Faults::default();
        faults.add(fault(r#"{"kind":"clock","ms":-400}"#)).unwrap();
        faults.add(fault(r#"{"kind":"clock_jump","ms":50,"count":1}"#)).unwrap();
        assert_eq!(faults.clock(1_000), 600);
        assert_eq!(strikes(&mut faults, "/"), 1, "the jump, not the clock");
        assert_eq!(strikes(&mut faults, "/"), 0);
        assert_eq!(faults.clock(1_000), 650);
        faults.clear(Some(1));
        assert_eq!(faults.clock(1_000), 1_050);
        faults.clear(None);
        assert_eq!(faults.clock(1_000), 1_000);
    }

    #[test]
    fn faults_of_the_stream_strike_messages_and_nothing_else() {
        let mut faults = Faults::default();
        faults.add(fault(r#"{"kind":"stream_lose"}"#)).unwrap();
        assert_eq!(strikes(&mut faults, "/"), 0);
        assert_eq!(faults.strike_stream().len(), 1);
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for json in [
            "{}",
            r#"{"kind":"explode"}"#,
            r#"{"kind":"refuse","probability":2}"#,
            r#"{"kind":"refuse","endpoint":"order"}"#,
            r#"{"kind":"delay_before","ms":-1}"#,
            r#"{"kind":"delay_before","ms":600001}"#,
            r#"{"kind":"repeat","times":0}"#,
            r#"{"kind":"error_after","status":200}"#,
            r#"{"kind":"refuse","tiems":1}"#,
        ] {
            assert!(FaultSpec::parse(json.as_bytes()).is_err(), "{json}");
        }
        let mut faults = Faults::default();
        for _ in 0..FAULTS_MAX {
            faults.add(fault(r#"{"kind":"refuse"}"#)).unwrap();
        }
        assert!(faults.add(fault(r#"{"kind":"refuse"}"#)).is_err());
    }
}
