//! Everything that is made of the log: accounts, orders, trades, what was promised to whom.
//!
//! # Invariants
//!
//! 1. Only [`State::apply`] changes anything, so the same entries make the same state.
//! 2. Of each asset: what accounts have, what was taken as fees and what the outside market got add up to what
//!    accounts began with.
//! 3. No balance is below zero, and what is locked is what open orders may still take.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::amount::Amount;
use super::entry::{Accepted, Entry, Event, Fill, OrderType, Side, Status, TimeInForce};
use super::judge::Judge;
use super::symbol::SymbolSpec;

/// How much is kept of what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Orders that are over, for each symbol.
    pub orders_kept: usize,
    /// Trades, for each symbol.
    pub trades_kept: usize,
    /// Open orders of an account.
    pub open_orders_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { orders_kept: 20_000, trades_kept: 50_000, open_orders_max: 200 }
    }
}

/// What an account has of an asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What may be spent.
    pub free: Amount,
    /// What open orders may take.
    pub locked: Amount,
}

/// Somebody who trades.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// By asset.
    pub balances: BTreeMap<String, Balance>,
    /// Its open orders; at most [`Bounds::open_orders_max`].
    pub open: BTreeSet<u64>,
    /// Its orders that are kept, by the id that it gave them.
    by_client_id: BTreeMap<String, BTreeSet<u64>>,
    /// The number of the owner that it is sealed to; 0 before that.
    pub session: u64,
    /// When something last changed, unix milliseconds.
    pub updated: u64,
}

/// An order, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// As it was accepted.
    pub accepted: Accepted,
    /// How far it has come.
    pub status: Status,
    /// How much was filled.
    pub executed: Amount,
    /// What that came to.
    pub spent: Amount,
    /// When it was accepted, unix milliseconds.
    pub time: u64,
    /// When something last changed.
    pub updated: u64,
}

impl Order {
    /// What is left to fill.
    pub fn remaining(&self) -> Amount {
        self.accepted.quantity - self.executed
    }
}

/// A trade, with whoever took part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    /// What happened.
    pub fill: Fill,
    /// When, unix milliseconds.
    pub time: u64,
    /// Whose order bought.
    pub buyer: Option<String>,
    /// Whose order sold.
    pub seller: Option<String>,
}

/// One symbol: what waits, and what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Market {
    /// What it is.
    pub spec: SymbolSpec,
    /// Orders that wait to buy, best first: price below zero, then id.
    bids: BTreeSet<(i128, u64)>,
    /// Orders that wait to sell, best first: price, then id.
    asks: BTreeSet<(i128, u64)>,
    /// Orders that are over, oldest first.
    over: VecDeque<u64>,
    /// Oldest first.
    pub trades: VecDeque<Trade>,
    /// The last trade's id.
    pub last_trade_id: u64,
}

impl Market {
    fn queue(&mut self, side: Side) -> &mut BTreeSet<(i128, u64)> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// Orders that wait on a side, in the order in which they are to be filled: by price, then by time.
    pub fn waiting(&self, side: Side) -> impl Iterator<Item = (Amount, u64)> + '_ {
        let (queue, sign) = match side {
            Side::Buy => (&self.bids, -1),
            Side::Sell => (&self.asks, 1),
        };
        queue.iter().map(move |&(price, id)| (Amount(sign * price), id))
    }
}

fn place(accepted: &Accepted) -> (i128, u64) {
    let sign = if accepted.side == Side::Buy { -1 } else { 1 };
    (sign * accepted.price.0, accepted.order_id)
}

/// Everything that the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    bounds: Bounds,
    /// By name.
    pub accounts: BTreeMap<String, Account>,
    /// By id; those that are over at most [`Bounds::orders_kept`] for each symbol.
    pub orders: BTreeMap<u64, Order>,
    /// By name.
    pub markets: BTreeMap<String, Market>,
    /// By asset: what was taken.
    pub fees: BTreeMap<String, Amount>,
    /// By asset: what the outside market has got, below zero for what it gave.
    pub outside: BTreeMap<String, Amount>,
    /// The last order's id.
    pub last_order_id: u64,
    /// The last entry's number.
    pub last_entry: u64,
    /// What was accepted.
    pub judge: Judge,
}

impl State {
    /// Nothing has happened.
    pub fn new(symbols: &[SymbolSpec], bounds: Bounds) -> Self {
        let market = |spec: &SymbolSpec| Market {
            spec: spec.clone(),
            bids: BTreeSet::new(),
            asks: BTreeSet::new(),
            over: VecDeque::new(),
            trades: VecDeque::new(),
            last_trade_id: 0,
        };
        Self {
            bounds,
            accounts: BTreeMap::new(),
            orders: BTreeMap::new(),
            markets: symbols.iter().map(|spec| (spec.name.clone(), market(spec))).collect(),
            fees: BTreeMap::new(),
            outside: BTreeMap::new(),
            last_order_id: 0,
            last_entry: 0,
            judge: Judge::default(),
        }
    }

    /// How much is kept.
    pub const fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Takes a whole entry.
    ///
    /// # Errors
    ///
    /// What of it cannot have been.
    pub fn replay(&mut self, entry: &Entry) -> Result<(), String> {
        for event in &entry.events {
            self.apply(event, entry.time)?;
        }
        self.finish(entry);
        Ok(())
    }

    /// Counts an entry whose events have been applied.
    pub fn finish(&mut self, entry: &Entry) {
        self.last_entry = entry.number;
        self.judge.on_entry(entry);
    }

    /// Lets `event` have happened.
    ///
    /// # Errors
    ///
    /// Why it cannot have.
    pub fn apply(&mut self, event: &Event, time: u64) -> Result<(), String> {
        match event {
            Event::Started { .. } | Event::Capabilities { .. } | Event::Rejected { .. } => Ok(()),
            Event::Account { account, balances } => {
                let balance = |(asset, &free): (&String, &Amount)| {
                    (asset.clone(), Balance { free, locked: Amount::ZERO })
                };
                let balances = balances.iter().map(balance).collect();
                let opened = Account { balances, updated: time, ..Account::default() };
                match self.accounts.insert(account.clone(), opened) {
                    None => Ok(()),
                    Some(_) => Err(format!("account {account} is there already")),
                }
            }
            Event::Session { account, session } => {
                self.account(account)?.session = *session;
                Ok(())
            }
            Event::Order(accepted) => self.accept(accepted, time),
            Event::Fill(fill) => self.fill(fill, time),
            Event::Closed { order_id, status, .. } => {
                let order = self.order(*order_id)?;
                order.status = *status;
                order.updated = time;
                self.close(*order_id, time)
            }
        }
    }

    fn account(&mut self, name: &str) -> Result<&mut Account, String> {
        self.accounts.get_mut(name).ok_or_else(|| format!("there is no account {name}"))
    }

    fn order(&mut self, id: u64) -> Result<&mut Order, String> {
        let order = self.orders.get_mut(&id).filter(|order| order.status.is_open());
        order.ok_or_else(|| format!("order {id} is not open"))
    }

    fn market(&mut self, name: &str) -> Result<&mut Market, String> {
        let market = self.markets.get_mut(name);
        market.ok_or_else(|| format!("there is no symbol {name}; name it among --symbols"))
    }

    /// What an order locks, and how much of it: only one with a limit does.
    fn lock_of(&self, accepted: &Accepted, quantity: Amount) -> Option<(String, Amount)> {
        let spec = &self.markets.get(&accepted.symbol)?.spec;
        match (accepted.order_type, accepted.side) {
            (OrderType::Market, _) => None,
            (OrderType::Limit, Side::Buy) => {
                Some((spec.quote.clone(), accepted.price.times(quantity)))
            }
            (OrderType::Limit, Side::Sell) => Some((spec.base.clone(), quantity)),
        }
    }

    fn accept(&mut self, accepted: &Accepted, time: u64) -> Result<(), String> {
        let (id, name) = (accepted.order_id, &accepted.account);
        if id <= self.last_order_id {
            return Err(format!("order {id} comes after {}", self.last_order_id));
        }
        let market = self.market(&accepted.symbol)?;
        if accepted.time_in_force == TimeInForce::Gtc {
            market.queue(accepted.side).insert(place(accepted));
        }
        let lock = self.lock_of(accepted, accepted.quantity);
        let account = self.account(name)?;
        account.updated = time;
        account.open.insert(id);
        account.by_client_id.entry(accepted.client_id.clone()).or_default().insert(id);
        if let Some((asset, amount)) = lock {
            let balance = account.balances.entry(asset.clone()).or_default();
            balance.free -= amount;
            balance.locked += amount;
            if balance.free < Amount::ZERO {
                return Err(format!("{name} has not that much {asset}"));
            }
        }
        self.last_order_id = id;
        let order = Order {
            accepted: accepted.clone(),
            status: Status::New,
            executed: Amount::ZERO,
            spent: Amount::ZERO,
            time,
            updated: time,
        };
        self.orders.insert(id, order);
        Ok(())
    }

    fn fill(&mut self, fill: &Fill, time: u64) -> Result<(), String> {
        let market = self.market(&fill.symbol)?;
        if fill.trade_id <= market.last_trade_id {
            return Err(format!("trade {} comes after {}", fill.trade_id, market.last_trade_id));
        }
        market.last_trade_id = fill.trade_id;
        let (base, quote) = (market.spec.base.clone(), market.spec.quote.clone());
        let cost = fill.price.times(fill.quantity);
        let mut owners = [None, None];
        for (at, part) in [(0, &fill.buyer), (1, &fill.seller)] {
            let side = if at == 0 { Side::Buy } else { Side::Sell };
            let (got, gave) = match side {
                Side::Buy => ((&base, fill.quantity), (&quote, cost)),
                Side::Sell => ((&quote, cost), (&base, fill.quantity)),
            };
            let Some(part) = part else {
                *self.outside.entry(got.0.clone()).or_default() += got.1;
                *self.outside.entry(gave.0.clone()).or_default() -= gave.1;
                continue;
            };
            let order = self.order(part.order_id)?;
            if order.accepted.side != side || order.remaining() < fill.quantity {
                return Err(format!("order {} cannot have that fill", part.order_id));
            }
            order.executed += fill.quantity;
            order.spent += cost;
            order.updated = time;
            let is_whole = order.remaining() == Amount::ZERO;
            order.status = if is_whole { Status::Filled } else { Status::PartiallyFilled };
            let accepted = order.accepted.clone();
            let lock = self.lock_of(&accepted, fill.quantity);
            let account = self.account(&accepted.account)?;
            account.updated = time;
            let paid = account.balances.entry(gave.0.clone()).or_default();
            if let Some((_, locked)) = lock {
                // What was locked and is not spent is free again: the price was better than the limit.
                paid.locked -= locked;
                paid.free += locked;
            }
            paid.free -= gave.1;
            if paid.free < Amount::ZERO || paid.locked < Amount::ZERO {
                return Err(format!("{} has not that much {}", accepted.account, gave.0));
            }
            account.balances.entry(got.0.clone()).or_default().free += got.1 - part.fee;
            *self.fees.entry(got.0.clone()).or_default() += part.fee;
            owners[at] = Some(accepted.account);
            if is_whole {
                self.close(part.order_id, time)?;
            }
        }
        let [buyer, seller] = owners;
        let kept = self.bounds.trades_kept;
        let market = self.market(&fill.symbol)?;
        market.trades.push_back(Trade { fill: fill.clone(), time, buyer, seller });
        if market.trades.len() > kept {
            market.trades.pop_front();
        }
        Ok(())
    }

    /// Takes an order that is over out of the book and gives back what it had locked.
    fn close(&mut self, id: u64, time: u64) -> Result<(), String> {
        let order = self.orders.get(&id).ok_or("the order is there")?;
        let (accepted, remaining) = (order.accepted.clone(), order.remaining());
        let lock = self.lock_of(&accepted, remaining);
        let account = self.account(&accepted.account)?;
        account.open.remove(&id);
        account.updated = time;
        if let Some((asset, amount)) = lock {
            let balance = account.balances.entry(asset).or_default();
            balance.locked -= amount;
            balance.free += amount;
        }
        let kept = self.bounds.orders_kept;
        let market = self.market(&accepted.symbol)?;
        market.queue(accepted.side).remove(&place(&accepted));
        market.over.push_back(id);
        let forgotten = if market.over.len() > kept { market.over.pop_front() } else { None };
        if let Some(order) = forgotten.and_then(|id| self.orders.remove(&id)) {
            let account = self.account(&order.accepted.account)?;
            if let Some(ids) = account.by_client_id.get_mut(&order.accepted.client_id) {
                ids.remove(&order.accepted.order_id);
                if ids.is_empty() {
                    account.by_client_id.remove(&order.accepted.client_id);
                }
            }
        }
        Ok(())
    }

    /// An account's order by the id that it gave: one that is open rather than one that is over, then the
    /// newest.
    pub fn by_client_id(&self, account: &str, client_id: &str) -> Option<&Order> {
        let ids = self.accounts.get(account)?.by_client_id.get(client_id)?;
        let orders = ids.iter().rev().filter_map(|id| self.orders.get(id));
        let mut open = orders.clone().filter(|order| order.status.is_open());
        open.next().or_else(|| orders.clone().next())
    }

    /// What there is of an asset in all: it never changes but by new accounts.
    pub fn total(&self, asset: &str) -> Amount {
        let of = |account: &Account| {
            let balance = account.balances.get(asset).copied().unwrap_or_default();
            balance.free + balance.locked
        };
        let accounts = self.accounts.values().map(of).fold(Amount::ZERO, |sum, part| sum + part);
        let fees = self.fees.get(asset).copied().unwrap_or_default();
        accounts + fees + self.outside.get(asset).copied().unwrap_or_default()
    }
}
