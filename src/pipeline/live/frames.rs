//! What a frame of a live feed is, and whether frames are missing before it.
//!
//! Frames are those of Binance's market streams: `{"stream": .., "data": {..}}`, or the data alone.
//! Ids that prove continuity, by the venue's documentation:
//!
//! | Event         | Rule                                                                      |
//! |---------------|---------------------------------------------------------------------------|
//! | `depthUpdate` | futures: `pu` is the `u` before; spot: `U` is at most the `u` before plus 1 |
//! | `trade`       | `t` is the one before plus 1                                              |
//! | `aggTrade`    | `a` is the one before plus 1                                              |
//! | `bookTicker`  | `u` grows; ids in between belong to changes below the top                 |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Missing messages, told by the ids of those that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The stream's name.
    pub stream: String,
    /// The last id before the gap.
    pub last: u64,
    /// The first id after it.
    pub next: u64,
    /// Messages missing, where ids count messages; else the ids skipped.
    pub missing: u64,
    /// Whether the connection was lost in between, so that a gap is no surprise.
    pub is_across_connections: bool,
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameVerdict {
    /// Market data, to be passed on; `gap` if something is missing before it.
    Market {
        /// What is missing.
        gap: Option<Gap>,
    },
    /// An answer to a request, such as a subscription.
    Control,
    /// The venue refuses a request; the excerpt says why.
    Refusal {
        /// The frame's beginning.
        excerpt: String,
    },
    /// Nothing that we know.
    Garbage {
        /// The frame's beginning, what is not printable escaped.
        excerpt: String,
    },
}

/// Frames so far, by what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameCounts {
    /// Market data.
    pub market: u64,
    /// Answers to requests, refusals among them.
    pub control: u64,
    /// Neither.
    pub garbage: u64,
    /// Gaps.
    pub gaps: u64,
    /// Sum of [`Gap::missing`].
    pub missing: u64,
    /// Market data whose id is not above the one before. Passed on: the cleaner judges it.
    pub repeated: u64,
    /// Market data of streams beyond [`FrameJudge::STREAM_COUNT_MAX`], or of names that are too
    /// long, whose gaps are not seen.
    pub untracked: u64,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug)]
struct Progress {
    last: u64,
    connection: u64,
}

/// Judges frames, in order, of one feed over all its connections.
#[derive(Debug, Default)]
pub struct FrameJudge {
    /// At most [`FrameJudge::STREAM_COUNT_MAX`].
    streams: BTreeMap<String, Progress>,
    /// Connections so far.
    connection: u64,
    counts: FrameCounts,
}

impl FrameJudge {
    /// Streams whose ids are followed; the venue allows 1,024 a connection.
    pub const STREAM_COUNT_MAX: usize = 2_048;

    /// Longest name of a stream whose ids are followed.
    pub const STREAM_NAME_BYTES_MAX: usize = 128;

    /// Bytes of a frame that an excerpt shows.
    pub const EXCERPT_BYTES: usize = 80;

    /// Frames so far, by what they were.
    pub const fn counts(&self) -> FrameCounts {
        self.counts
    }

    /// Frames that follow are of another connection.
    pub const fn on_opened(&mut self) {
        self.connection += 1;
    }

    /// Says what `frame` is, and remembers its id.
    pub fn judge(&mut self, frame: &[u8]) -> FrameVerdict {
        let verdict = match Message::read(frame) {
            Some(Message::Market { stream, data }) => {
                FrameVerdict::Market { gap: self.follow(&stream, &data) }
            }
            Some(Message::Control { is_refusal: false }) => FrameVerdict::Control,
            Some(Message::Control { is_refusal: true }) => {
                FrameVerdict::Refusal { excerpt: excerpt(frame) }
            }
            None => FrameVerdict::Garbage { excerpt: excerpt(frame) },
        };
        match &verdict {
            FrameVerdict::Market { gap } => {
                self.counts.market += 1;
                if let Some(gap) = gap {
                    self.counts.gaps += 1;
                    self.counts.missing = self.counts.missing.saturating_add(gap.missing);
                }
            }
            FrameVerdict::Control | FrameVerdict::Refusal { .. } => self.counts.control += 1,
            FrameVerdict::Garbage { .. } => self.counts.garbage += 1,
        }
        verdict
    }

    /// A frame that could not even be read as text.
    pub fn judge_binary(&mut self, frame: &[u8]) -> FrameVerdict {
        self.counts.garbage += 1;
        FrameVerdict::Garbage { excerpt: excerpt(frame) }
    }

    fn follow(&mut self, stream: &str, data: &Data<'_>) -> Option<Gap> {
        let ids = data.ids()?;
        let connection = self.connection;
        let Some(progress) = self.streams.get_mut(stream) else {
            if self.streams.len() >= Self::STREAM_COUNT_MAX
                || stream.len() > Self::STREAM_NAME_BYTES_MAX
            {
                self.counts.untracked += 1;
            } else {
                self.streams.insert(stream.to_owned(), Progress { last: ids.last, connection });
            }
            return None;
        };
        let before = std::mem::replace(progress, Progress { last: ids.last, connection });
        if ids.last <= before.last {
            self.counts.repeated += 1;
            progress.last = before.last;
            return None;
        }
        let follows = match ids.rule {
            Rule::Previous(previous) => previous == before.last,
            Rule::First(first) => first <= before.last + 1,
            Rule::Grows => true,
        };
        (!follows).then(|| Gap {
            stream: stream.to_owned(),
            last: before.last,
            next: ids.first,
            missing: ids.first.saturating_sub(before.last + 1),
            is_across_connections: before.connection != connection,
        })
    }
}

/// The ids of a message.
struct Ids {
    first: u64,
    last: u64,
    rule: Rule,
}

/// What must hold between a message and the one before.
enum Rule {
    /// That one's last id is this.
    Previous(u64),
    /// This id is the next one, or an old one.
    First(u64),
    /// The id is larger.
    Grows,
}

enum Message<'a> {
    Market { stream: Cow<'a, str>, data: Data<'a> },
    Control { is_refusal: bool },
}

impl<'a> Message<'a> {
    fn read(frame: &'a [u8]) -> Option<Self> {
        // A list would be read as an object's values in order.
        if frame.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let envelope: Envelope<'_> = serde_json::from_slice(frame).ok()?;
        if !envelope.stream.is_empty() {
            let data = envelope.data.filter(|data| data.is_market())?;
            return Some(Self::Market { stream: envelope.stream, data });
        }
        if envelope.error.0 || envelope.code.0 {
            return Some(Self::Control { is_refusal: true });
        }
        if envelope.result.0 {
            return Some(Self::Control { is_refusal: false });
        }
        let data: Data<'_> = serde_json::from_slice(frame).ok()?;
        let stream = Cow::Owned(format!("{}@{}", data.s, data.event()));
        data.is_market().then_some(Self::Market { stream, data })
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
    #[serde(default)]
    result: Present,
    #[serde(default)]
    error: Present,
    #[serde(default)]
    code: Present,
}

/// The fields of an event that tell its kind and its place. Names are the venue's.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    e: Cow<'a, str>,
    #[serde(borrow, default)]
    s: Cow<'a, str>,
    #[serde(rename = "U", default)]
    first: Number,
    #[serde(default)]
    u: Number,
    #[serde(default)]
    pu: Number,
    #[serde(default)]
    t: Number,
    #[serde(default)]
    a: Number,
    #[serde(rename = "lastUpdateId", default)]
    last_update_id: Number,
}

impl Data<'_> {
    /// The event's kind. Spot's book tickers and partial books do not say.
    fn event(&self) -> &str {
        match (&*self.e, self.u.0, self.last_update_id.0) {
            ("", Some(_), _) => "bookTicker",
            ("", None, Some(_)) => "depth",
            (event, _, _) => event,
        }
    }

    fn is_market(&self) -> bool {
        !self.event().is_empty()
    }

    fn ids(&self) -> Option<Ids> {
        let counted = |id: u64| Ids { first: id, last: id, rule: Rule::First(id) };
        match self.event() {
            "depthUpdate" => {
                let (first, last) = (self.first.0?, self.u.0?);
                let rule = self.pu.0.map_or(Rule::First(first), Rule::Previous);
                Some(Ids { first, last, rule })
            }
            "trade" => self.t.0.map(counted),
            "aggTrade" => self.a.0.map(counted),
            "bookTicker" => self.u.0.map(|id| Ids { first: id, last: id, rule: Rule::Grows }),
            _ => None,
        }
    }
}

/// A whole number, or none for a value of any other shape: `a` is an id in one event and a list of
/// prices in another.
#[derive(Clone, Copy, Default)]
struct Number(Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_str<E>(self, _: &str) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Number, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Number, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Whether a key is there, whatever its value; `"result": null` is.
#[derive(Clone, Copy, Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Self(true))
    }
}

fn excerpt(frame: &[u8]) -> String {
    frame[..frame.len().min(FrameJudge::EXCERPT_BYTES)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(frames: &[String]) -> (FrameCounts, Vec<Gap>) {
        let mut judge = FrameJudge::default();
        let mut gaps = vec![];
        for frame in frames {
            if let FrameVerdict::Market { gap: Some(gap) } = judge.judge(frame.as_bytes()) {
                gaps.push(gap);
            }
        }
        (judge.counts(), gaps)
    }

    fn trade(id: u64) -> String {
        format!(
            r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1,"s":"BTCUSDT","t":{id},"p":"1.0","q":"2.0","T":1,"m":true,"M":true}}}}"#
        )
    }

    fn spot_depth(first: u64, last: u64) -> String {
        format!(
            r#"{{"stream":"btcusdt@depth","data":{{"e":"depthUpdate","s":"BTCUSDT","U":{first},"u":{last},"b":[["1.0","2.0"]],"a":[]}}}}"#
        )
    }

    fn futures_depth(first: u64, last: u64, previous: u64) -> String {
        format!(
            r#"{{"stream":"btcusdt@depth","data":{{"e":"depthUpdate","s":"BTCUSDT","U":{first},"u":{last},"pu":{previous},"b":[],"a":[["1.0","2.0"]]}}}}"#
        )
    }

    fn book_ticker(id: u64) -> String {
        format!(
            r#"{{"stream":"btcusdt@bookTicker","data":{{"u":{id},"s":"BTCUSDT","b":"1.0","B":"2.0","a":"1.1","A":"3.0"}}}}"#
        )
    }

    #[test]
    fn trades_that_are_missing_are_counted_by_their_ids() {
        let (counts, gaps) = judge(&[trade(7), trade(8), trade(12), trade(13)]);
        assert_eq!((counts.market, counts.gaps, counts.missing), (4, 1, 3));
        assert_eq!((gaps[0].last, gaps[0].next), (8, 12));
        assert_eq!(gaps[0].stream, "btcusdt@trade");
        assert!(!gaps[0].is_across_connections);
    }

    #[test]
    fn spot_depth_follows_when_its_first_id_is_the_next_or_an_old_one() {
        let sound = [spot_depth(1, 5), spot_depth(6, 9), spot_depth(8, 12), spot_depth(13, 13)];
        assert_eq!(judge(&sound).0.gaps, 0);
        assert_eq!(judge(&[spot_depth(1, 5), spot_depth(7, 9)]).0.missing, 1);
    }

    #[test]
    fn futures_depth_follows_when_it_names_the_one_before() {
        let sound = [futures_depth(1, 5, 0), futures_depth(8, 12, 5), futures_depth(20, 21, 12)];
        assert_eq!(judge(&sound).0.gaps, 0);
        assert_eq!(judge(&[futures_depth(1, 5, 0), futures_depth(8, 12, 6)]).0.gaps, 1);
    }

    #[test]
    fn book_tickers_may_skip_ids_but_not_go_back() {
        let (counts, _) = judge(&[book_ticker(5), book_ticker(90), book_ticker(80)]);
        assert_eq!((counts.gaps, counts.repeated), (0, 1));
    }

    #[test]
    fn what_was_lost_while_disconnected_is_a_gap_across_connections() {
        let mut judge = FrameJudge::default();
        judge.on_opened();
        judge.judge(trade(7).as_bytes());
        judge.on_opened();
        let FrameVerdict::Market { gap: Some(gap) } = judge.judge(trade(10).as_bytes()) else {
            panic!("no gap");
        };
        assert_eq!((gap.missing, gap.is_across_connections), (2, true));
    }

    #[test]
    fn data_without_an_envelope_is_followed_as_well() {
        let raw = |id: u64| format!(r#"{{"e":"aggTrade","s":"BTCUSDT","a":{id},"p":"1.0"}}"#);
        let (counts, gaps) = judge(&[raw(1), raw(3)]);
        assert_eq!((counts.market, counts.missing), (2, 1));
        assert_eq!(gaps[0].stream, "BTCUSDT@aggTrade");
    }

    #[test]
    fn answers_and_refusals_are_not_market_data() {
        let (counts, _) = judge(&[
            r#"{"result":null,"id":1}"#.to_owned(),
            r#"{"error":{"code":2,"msg":"Invalid request"},"id":1}"#.to_owned(),
            r#"{"code":-1121,"msg":"Invalid symbol."}"#.to_owned(),
        ]);
        assert_eq!((counts.control, counts.market, counts.garbage), (3, 0, 0));
    }

    #[test]
    fn garbage_is_shown_and_never_more_than_its_beginning() {
        let mut judge = FrameJudge::default();
        let half = trade(7)[..60].to_owned();
        let long = "x".repeat(1_000_000);
        for frame in ["", "{}", "[]", "[1]", "null", "hello\n", "{\"stream\":\"a\"}", &half, &long]
        {
            let FrameVerdict::Garbage { excerpt } = judge.judge(frame.as_bytes()) else {
                panic!("{frame} is not garbage");
            };
            assert!(excerpt.len() <= 4 * FrameJudge::EXCERPT_BYTES);
        }
        assert_eq!(judge.counts().garbage, 9);
    }

    #[test]
    fn streams_beyond_the_bound_are_not_followed() {
        let mut judge = FrameJudge::default();
        for index in 0..=FrameJudge::STREAM_COUNT_MAX {
            let frame = format!(r#"{{"stream":"{index}@trade","data":{{"e":"trade","t":1}}}}"#);
            judge.judge(frame.as_bytes());
        }
        assert_eq!(judge.counts().untracked, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn no_bytes_are_fatal_and_each_frame_is_counted_once(
            frames in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..200),
                    (0..4u64, 0usize..200).prop_map(|(id, cut)| {
                        let whole = trade(u64::MAX - id).into_bytes();
                        whole[..cut.min(whole.len())].to_vec()
                    }),
                    any::<u64>().prop_map(|id| trade(id).into_bytes()),
                    any::<(u64, u64, u64)>()
                        .prop_map(|(a, b, c)| futures_depth(a, b, c).into_bytes()),
                    any::<(u64, u64)>().prop_map(|(a, b)| spot_depth(a, b).into_bytes()),
                ],
                0..20,
            ),
        ) {
            let mut judge = FrameJudge::default();
            for frame in &frames {
                judge.judge(frame);
            }
            let counts = judge.counts();
            let total = counts.market + counts.control + counts.garbage;
            prop_assert_eq!(total, u64::try_from(frames.len()).unwrap());
        }
    }
}
