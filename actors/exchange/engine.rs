//! The matching engine: one thread that takes one thing after the other, and answers when it is on the disk.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::Value;
use tickwright_core::exchange::{
    ApiError, Capabilities, Exchange, Outcome, Outside, Request, Verdict,
};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::log::{JudgeLog, JudgeLogError};

/// Things that may wait to be taken.
const WAITING_MAX: usize = 4_096;

/// Something to take.
#[derive(Debug)]
pub(super) enum Work {
    Request(Request, oneshot::Sender<Result<Value, ApiError>>),
    /// A symbol's market outside, and whom to tell that orders have been filled by it.
    Market(String, Outside, Option<oneshot::Sender<()>>),
    /// What of the capabilities changes.
    Change(Value, oneshot::Sender<Result<Capabilities, String>>),
    Capabilities(oneshot::Sender<Capabilities>),
    Verdict(oneshot::Sender<Verdict>),
    /// The last thing.
    Stop(oneshot::Sender<()>),
}

/// Hands things to the engine.
#[derive(Clone, Debug)]
pub(super) struct Engine(mpsc::Sender<Work>);

/// The engine is no more: the exchange ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended;

impl Engine {
    /// Starts it. The thread ends when nobody can hand it anything any more, or the log cannot be
    /// written; then nothing that was taken since is answered.
    pub(super) fn start(
        exchange: Exchange,
        log: Option<JudgeLog>,
        shared: Arc<Shared>,
    ) -> io::Result<(Self, JoinHandle<Result<(), JudgeLogError>>)> {
        let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
        let mut bench = Bench { exchange, log, shared };
        let work = move || {
            while let Some(work) = receiver.blocking_recv() {
                let is_last = matches!(work, Work::Stop(_));
                bench.take(work)?;
                if is_last {
                    break;
                }
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("matching".to_owned()).spawn(work)?;
        Ok((Self(sender), thread))
    }

    /// Whether the engine has ended.
    pub(super) async fn ended(&self) {
        self.0.closed().await;
    }

    /// The same, without waiting for it.
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_closed()
    }

    /// What the client is told of its request.
    pub(super) async fn request(&self, request: Request) -> Result<Result<Value, ApiError>, Ended> {
        self.ask(|reply| Work::Request(request, reply)).await
    }

    /// What `work` is answered with.
    pub(super) async fn ask<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<T>) -> Work,
    ) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.0.send(work(reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// The same from a thread that may block.
    pub(super) fn market(&self, symbol: String, outside: Outside) -> Result<(), Ended> {
        self.0.blocking_send(Work::Market(symbol, outside, None)).map_err(|_| Ended)
    }
}

struct Bench {
    exchange: Exchange,
    log: Option<JudgeLog>,
    shared: Arc<Shared>,
}

impl Bench {
    fn take(&mut self, work: Work) -> Result<(), JudgeLogError> {
        // Whoever asked may have left: what was taken stands.
        match work {
            Work::Request(request, reply) => {
                let outcome = self.exchange.take(&request, self.shared.now());
                let _ = reply.send(self.settle(outcome)?);
            }
            Work::Market(symbol, outside, reply) => {
                let outcome = self.exchange.on_market(&symbol, outside, self.shared.now());
                let _ = self.settle(outcome)?;
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
            Work::Change(changes, reply) => {
                let changed = self.exchange.capabilities().with(&changes);
                if let Ok(capabilities) = &changed {
                    let now = self.shared.now();
                    let outcome = self.exchange.on_capabilities(*capabilities, now);
                    let _ = self.settle(outcome)?;
                }
                let _ = reply.send(changed);
            }
            Work::Capabilities(reply) => drop(reply.send(*self.exchange.capabilities())),
            Work::Verdict(reply) => drop(reply.send(self.exchange.verdict())),
            Work::Stop(reply) => drop(reply.send(())),
        }
        Ok(())
    }

    /// Writes down what has happened, then lets it be known.
    fn settle(&mut self, outcome: Outcome) -> Result<Result<Value, ApiError>, JudgeLogError> {
        if let (Some(log), Some(entry)) = (&mut self.log, &outcome.entry) {
            log.append(entry)?;
        }
        self.shared.tell(&outcome.news);
        Ok(outcome.answer)
    }
}
