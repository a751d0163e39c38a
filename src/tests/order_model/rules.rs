//! The rules of the protocol, each of which a variant can leave out, and what it is checked against.

/// What keeps a second executor from the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// An intent in the ledger, before anything is sent.
    Intent,
    /// An intent in a journal that may forget what it has acknowledged.
    ForgottenIntent,
    /// A lock with a time to live; the holder asks the exchange before it sends.
    Lock,
    /// The same with a fencing token, which a gateway of ours checks on the way out.
    FencedLock,
}

/// What a client order id is made of, beside cluster, slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Slot,
    SlotAndAttempt,
    SlotAndInstance,
    /// Without the account of the slot.
    SlotOfAnyAccount,
}

/// The rules in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) guard: Guard,
    pub(crate) identity: Identity,
    /// The deadline that was committed is the one that is sent.
    pub(crate) is_stamped_at_commit: bool,
    /// An unknown outcome is asked for only once the exchange's clock is past the deadline.
    pub(crate) waits: bool,
    /// ε: how far past.
    pub(crate) margin: u8,
    /// What was not found may be closed without another attempt.
    pub(crate) abandons: bool,
    /// A slot is free again only after a terminal state was seen.
    pub(crate) awaits_terminal: bool,
    /// The commit that opens an intent refuses signals that are spent.
    pub(crate) refuses_spent: bool,
    /// Signals are spent for the account whose order it is, and not for all.
    pub(crate) spends_by_account: bool,
    /// A backup order needs the primary's refusal in the ledger.
    pub(crate) awaits_refusal: bool,
    /// A ledger that is founded anew draws another cluster id.
    pub(crate) draws_cluster: bool,
    /// Until it is ready, no commit opens an intent in it.
    pub(crate) refuses_unready: bool,
    /// It is ready only when nothing sent before it can be accepted any more.
    pub(crate) waits_out: bool,
    /// Nor before what is open in the account is closed.
    pub(crate) awaits_closed: bool,
    /// It counts every signal there was before it as spent.
    pub(crate) spends_older: bool,
}

/// The protocol as it is.
pub(crate) const PROTOCOL: Rules = Rules {
    guard: Guard::Intent,
    identity: Identity::Slot,
    is_stamped_at_commit: true,
    waits: true,
    margin: 0,
    abandons: true,
    awaits_terminal: true,
    refuses_spent: true,
    spends_by_account: true,
    awaits_refusal: true,
    draws_cluster: true,
    refuses_unready: true,
    waits_out: true,
    awaits_closed: true,
    spends_older: true,
};

/// By what an exchange can be kept from accepting a request that comes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    Deadline,
    /// One session at a time: whoever logs in ends the other's, and what was sent in it is void. The
    /// exchange's clock counts sessions then.
    Session,
    Neither,
}

/// Which client order ids an exchange refuses to see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deduplication {
    No,
    AmongOpen,
    All,
}

/// The surroundings, and the bounds of the search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) executors: u8,
    pub(crate) signals: u8,
    /// How many of them there are from the beginning.
    pub(crate) issued: u8,
    pub(crate) attempts: u8,
    /// From the clock that an executor has read to the deadline that it writes.
    pub(crate) window: u8,
    /// Clocks stop here, and nothing is begun that could not be resolved by then.
    pub(crate) horizon: u8,
    /// By how much an order may be invisible past its deadline.
    pub(crate) lag: u8,
    pub(crate) capability: Capability,
    pub(crate) deduplication: Deduplication,
    pub(crate) has_backup: bool,
    /// Every other signal is of a second account at the exchange. Then there is no backup.
    pub(crate) has_second_account: bool,
    /// The network, or a retry layer below, may deliver a request again.
    pub(crate) duplicates: bool,
    /// How often the ledger may be lost.
    pub(crate) losses: u8,
    /// The exchange knows an order of an earlier ledger, of generation 0.
    pub(crate) has_history: bool,
    /// Executors that have changed places are the same to the search. A path does not say then which of
    /// them took a step, so this is only for where none is expected.
    pub(crate) is_symmetric: bool,
}

/// Two executors and one exchange that has deadlines and does not compare ids.
pub(crate) const PLAIN: Setup = Setup {
    executors: 2,
    signals: 2,
    issued: 2,
    attempts: 2,
    window: 1,
    horizon: 6,
    lag: 0,
    capability: Capability::Deadline,
    deduplication: Deduplication::No,
    has_backup: false,
    has_second_account: false,
    duplicates: false,
    losses: 0,
    has_history: false,
    is_symmetric: false,
};
