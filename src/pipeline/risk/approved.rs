//! Orders that passed, and the ones among them that are still open.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::{Approval, Order, Quantity, TopOfBook};

/// An order that passed every check. Only [`RiskChecker::check`](super::RiskChecker::check) makes
/// one, so a router that takes `ApprovedOrder` cannot be handed an order that skipped risk.
///
/// It is written to checkpoints like any value. To read it back, name the door:
/// `#[serde(deserialize_with = "ApprovedOrder::from_checkpoint")]`, or ask the restored checker for
/// its [open orders](super::RiskChecker::open_orders).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovedOrder {
    order: Order,
    top: TopOfBook,
}

impl ApprovedOrder {
    pub(super) const fn new(order: Order, top: TopOfBook) -> Self {
        Self { order, top }
    }

    /// The order itself.
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// The book it was made from.
    pub const fn top(&self) -> &TopOfBook {
        &self.top
    }

    /// Reads back what an earlier checker approved and a checkpoint kept.
    ///
    /// # Errors
    ///
    /// The deserializer's.
    pub fn from_checkpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The same fields, without the seal.
        #[derive(Deserialize)]
        struct Unsealed {
            order: Order,
            top: TopOfBook,
        }
        let Unsealed { order, top } = Unsealed::deserialize(deserializer)?;
        Ok(Self { order, top })
    }
}

impl Approval for ApprovedOrder {
    fn order(&self) -> &Order {
        &self.order
    }

    fn top(&self) -> &TopOfBook {
        &self.top
    }
}

impl Deref for ApprovedOrder {
    type Target = Order;
    fn deref(&self) -> &Order {
        &self.order
    }
}

/// What is known of an open order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenStatus {
    /// Approved; the broker has not answered.
    Sent,
    /// The broker has it.
    Placed,
    /// The request left and no answer came.
    Unknown,
}

/// Approved and not yet over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOrder {
    #[serde(deserialize_with = "ApprovedOrder::from_checkpoint")]
    pub(super) approved: ApprovedOrder,
    /// Still to fill. Never zero.
    pub(super) remaining: Quantity,
    pub(super) status: OpenStatus,
    pub(super) cancelling: bool,
}

impl OpenOrder {
    /// The order as it was approved.
    pub const fn approved(&self) -> &ApprovedOrder {
        &self.approved
    }

    /// How much may still fill, positive.
    pub const fn remaining(&self) -> Quantity {
        self.remaining
    }

    /// What is known of it.
    pub const fn status(&self) -> OpenStatus {
        self.status
    }

    /// Whether a cancel was let through.
    pub const fn is_cancelling(&self) -> bool {
        self.cancelling
    }
}
