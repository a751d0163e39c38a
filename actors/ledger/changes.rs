//! What the ledger keeps of changes of parameters.

use std::time::Duration;

use tickwright_core::ledger::{ControlCommand, Operation, Outcome};

use super::client::{LedgerClient, LedgerError};

impl LedgerClient {
    /// Has `command` carried out; returns the number of the last hold there was.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn control(
        &self,
        command: ControlCommand,
        patience: Duration,
    ) -> Result<u64, LedgerError> {
        let done = self.submit(Operation::Control(command), patience).await?;
        let Outcome::Controlled { number } = done else {
            return Err(LedgerError::Unknown("a confused answer".into()));
        };
        Ok(number)
    }
}
