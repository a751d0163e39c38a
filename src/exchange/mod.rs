//! A simulated exchange: takes signed requests in the manner of Binance's spot market, matches orders, and
//! writes down what it accepted. It is the judge of whoever must not place an order twice.
//!
//! ```text
//! Request ─▶ take(request, now) ─┬▶ answer
//!                                ├▶ Entry: one line of the log, to be written before the answer
//! Outside ─▶ on_market(...) ─────┴▶ News: what the account's stream is told
//! Entry ──▶ State::replay          the same state again
//! ```
//!
//! It knows nothing of the order protocol that it judges, nor of the broker adapter that speaks to it. Whoever
//! acts for it has checked keys and signatures; whether a request is late is decided here, by the
//! exchange's own clock at the moment it is taken, whatever it waited for until then.
//!
//! # Invariants
//!
//! 1. The state is what the entries say: an exchange that replays them is the one that wrote them.
//! 2. No fill is worse than its order's limit.
//! 3. Orders are filled by price, then by time; at one price, accounts come before the outside market.
//! 4. After each step nobody in the book could trade with anybody else.
//! 5. Ids of orders ascend, and ids of trades for each symbol.
//! 6. Under `dedup = all` a client id is accepted once, whatever is repeated; under `open`, once among
//!    open orders.
//! 7. With `deadline`, nothing is accepted after `timestamp + recvWindow`.
//! 8. A session never falls, and nothing is taken of one below it.

mod amount;
mod answer;
mod capability;
mod endpoint;
mod entry;
mod error;
mod fault;
mod judge;
mod limit;
mod orders;
mod outside;
mod parameters;
mod queries;
mod random;
mod state;
mod symbol;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use amount::{Amount, AmountError};
pub use capability::{Capabilities, CapabilityError, Dedup};
pub use endpoint::{Endpoint, Security};
pub use entry::{
    Accepted, Entry, Event, Fill, FillSide, LINE_BYTES_MAX, LOG_FORMAT, LogError, LogReader,
    OrderType, Side, Status, TimeInForce,
};
pub use error::ApiError;
pub use fault::{ActiveFault, FaultError, FaultKind, FaultSpec, Faults};
pub use judge::{Judge, Repeated, Verdict};
pub use limit::RateLimit;
pub use outside::{Level, Outside, Walk};
pub use parameters::{Parameters, signed};
pub use state::{Account, Balance, Bounds, Market, Order, State, Trade};
pub use symbol::{SymbolError, SymbolSpec};

/// Client ids that are remembered. Then no order is accepted any more: to forget one would be to accept it
/// twice.
pub const CLIENT_IDS_MAX: usize = 2_000_000;

/// Longest that a request may be good for, milliseconds.
const RECV_WINDOW_MAX: u64 = 60_000;

/// How long a request is good for that does not say, milliseconds.
const RECV_WINDOW_DEFAULT: u64 = 5_000;

/// How far ahead of the exchange's clock a request may be, milliseconds.
const AHEAD_MAX: u64 = 1_000;

/// Requests of one address in a minute before it is told to wait.
pub const WEIGHT_MAX: u64 = 60_000;

/// What a fee is of what was got, in steps of 1e-8: a thousandth.
const FEE: Amount = Amount(100_000);

/// A request whose key and signature are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// Whose it is; nobody's where no key is needed.
    pub account: Option<String>,
    /// With what.
    pub parameters: Parameters,
}

/// What an account's stream is told.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Whose.
    pub account: String,
    /// The message.
    pub message: Value,
}

/// What came of something.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// To be written to the disk before anything else is done.
    pub entry: Option<Entry>,
    /// What the client is told.
    pub answer: Result<Value, ApiError>,
    /// What streams are told.
    pub news: Vec<News>,
}

/// The exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    state: State,
    capabilities: Capabilities,
    /// By symbol.
    outside: BTreeMap<String, Outside>,
    /// Times that books have changed.
    updates: u64,
}

/// What happens while one request is handled.
#[derive(Debug)]
struct Step {
    now: u64,
    events: Vec<Event>,
    news: Vec<News>,
}

impl Step {
    const fn new(now: u64) -> Self {
        Self { now, events: Vec::new(), news: Vec::new() }
    }
}

impl Exchange {
    /// An exchange that has done what `state` says.
    pub const fn new(state: State, capabilities: Capabilities) -> Self {
        Self { state, capabilities, outside: BTreeMap::new(), updates: 0 }
    }

    /// Everything that the log says.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What it can do.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What was accepted.
    pub fn verdict(&self) -> Verdict {
        self.state.judge.verdict()
    }

    /// Begins, and opens the accounts that are not there yet.
    ///
    /// # Panics
    ///
    /// Never: an account that is not there can be opened.
    pub fn start(
        &mut self,
        accounts: &BTreeMap<String, BTreeMap<String, Amount>>,
        now: u64,
    ) -> Entry {
        let mut step = Step::new(now);
        let capabilities = self.capabilities;
        self.emit(&mut step, Event::Started { format: LOG_FORMAT, capabilities });
        for (account, balances) in accounts {
            if !self.state.accounts.contains_key(account) {
                let (account, balances) = (account.clone(), balances.clone());
                self.emit(&mut step, Event::Account { account, balances });
            }
        }
        self.finish(step, Ok(Value::Null)).entry.expect("it has started")
    }

    /// From now on it can do what `capabilities` say.
    pub fn on_capabilities(&mut self, capabilities: Capabilities, now: u64) -> Outcome {
        let mut step = Step::new(now);
        self.capabilities = capabilities;
        self.emit(&mut step, Event::Capabilities { capabilities });
        self.finish(step, Ok(json!(capabilities)))
    }

    /// The matching engine takes `request`, at `now` by the exchange's clock in unix milliseconds.
    pub fn take(&mut self, request: &Request, now: u64) -> Outcome {
        let mut step = Step::new(now);
        let answer = self.answer(request, &mut step);
        if let Err(error) = &answer
            && request.endpoint.is_command()
            && let Some(account) = request.account.clone()
        {
            debug_assert!(step.events.is_empty(), "what is refused has no effect");
            let client_id = request.parameters.client_id("newClientOrderId");
            let event = Event::Rejected {
                account,
                request: request.endpoint.name(),
                client_id: client_id.ok().flatten().map(str::to_owned),
                code: error.code,
                message: error.message.clone(),
            };
            self.emit(&mut step, event);
        }
        self.finish(step, answer)
    }

    fn answer(&mut self, request: &Request, step: &mut Step) -> Result<Value, ApiError> {
        let Request { endpoint, account, parameters } = request;
        let endpoint = *endpoint;
        let account = match endpoint.security() {
            Security::None | Security::Key => String::new(),
            Security::Signed => {
                let account = account.clone().unwrap_or_default();
                self.check_time(parameters, step.now)?;
                self.check_session(endpoint, &account, parameters)?;
                account
            }
        };
        if endpoint.is_query() && !self.capabilities.query {
            return Err(ApiError::unsupported("orders and trades cannot be asked for here"));
        }
        match endpoint {
            Endpoint::GetPing
            | Endpoint::PostUserDataStream
            | Endpoint::PutUserDataStream
            | Endpoint::DeleteUserDataStream => Ok(json!({})),
            Endpoint::GetTime if self.capabilities.server_time => {
                Ok(json!({ "serverTime": step.now }))
            }
            Endpoint::GetTime => Err(ApiError::unsupported("the time cannot be asked for here")),
            Endpoint::GetExchangeInfo => self.exchange_info(parameters, step.now),
            Endpoint::GetDepth => self.depth(parameters),
            Endpoint::GetBookTicker => self.book_ticker(parameters),
            Endpoint::PostOrder => self.place(&account, parameters, step),
            Endpoint::DeleteOrder => self.cancel(&account, parameters, step),
            Endpoint::DeleteOpenOrders => self.cancel_all(&account, parameters, step),
            Endpoint::GetOrder => self.order(&account, parameters),
            Endpoint::GetOpenOrders => self.open_orders(&account, parameters),
            Endpoint::GetAllOrders => self.all_orders(&account, parameters),
            Endpoint::GetMyTrades => self.my_trades(&account, parameters),
            Endpoint::GetAccount => self.account(&account, parameters),
            Endpoint::PostSession => self.seal(&account, parameters, step),
        }
    }

    /// That the request is not late, nor from the future.
    fn check_time(&self, parameters: &Parameters, now: u64) -> Result<(), ApiError> {
        let timestamp = parameters.number("timestamp")?;
        let timestamp = timestamp.ok_or_else(|| ApiError::missing("timestamp"))?;
        let window = parameters.number("recvWindow")?.unwrap_or(RECV_WINDOW_DEFAULT);
        if window > RECV_WINDOW_MAX {
            return Err(ApiError::new(-1131, "recvWindow must be less than 60000."));
        }
        if !self.capabilities.deadline {
            return Ok(());
        }
        if now.saturating_sub(timestamp) > window {
            return Err(ApiError::of_code(-1021, 400));
        }
        if timestamp > now.saturating_add(AHEAD_MAX) {
            let message = "Timestamp for this request was 1000ms ahead of the server's time.";
            return Err(ApiError::new(-1021, message));
        }
        Ok(())
    }

    /// That the account is not sealed to somebody else. One who says no number is below every other.
    fn check_session(
        &self,
        endpoint: Endpoint,
        account: &str,
        parameters: &Parameters,
    ) -> Result<(), ApiError> {
        let sealed = self.state.accounts.get(account).map_or(0, |account| account.session);
        let own = parameters.number("session")?.unwrap_or(0);
        if !self.capabilities.exclusive_session
            || endpoint == Endpoint::PostSession
            || own >= sealed
        {
            return Ok(());
        }
        Err(ApiError::unsupported(&format!("session {own} is over; this is session {sealed}"))
            .with_status(403))
    }

    /// Makes the account the owner's with this number, and nobody's with a lower one.
    fn seal(
        &mut self,
        account: &str,
        parameters: &Parameters,
        step: &mut Step,
    ) -> Result<Value, ApiError> {
        if !self.capabilities.exclusive_session {
            return Err(ApiError::unsupported("accounts cannot be sealed here"));
        }
        parameters.only(&[])?;
        let session = parameters.number("session")?.ok_or_else(|| ApiError::missing("session"))?;
        let sealed = self.state.accounts.get(account).map_or(0, |account| account.session);
        if session <= sealed {
            let message = format!("session {session} is not above {sealed}");
            return Err(ApiError::unsupported(&message).with_status(403));
        }
        self.emit(step, Event::Session { account: account.to_owned(), session });
        Ok(json!({ "session": session }))
    }

    /// Lets something happen.
    fn emit(&mut self, step: &mut Step, event: Event) {
        let applied = self.state.apply(&event, step.now);
        applied.expect("what is emitted was checked to be possible");
        self.tell(step, &event);
        step.events.push(event);
    }

    fn finish(&mut self, mut step: Step, answer: Result<Value, ApiError>) -> Outcome {
        self.tell_balances(&mut step);
        let entry = (!step.events.is_empty()).then(|| Entry {
            number: self.state.last_entry + 1,
            time: step.now,
            events: step.events,
        });
        if let Some(entry) = &entry {
            self.state.finish(entry);
        }
        Outcome { entry, answer, news: step.news }
    }
}
