//! Where an actor's output goes.

use std::fmt;
use std::sync::Arc;

use ractor::{ActorRef, ActorStatus, Message};
use tokio::sync::mpsc;

use super::directory::{Directory, Undelivered};
use super::inbox::Inbox;
use super::link::Delivery;

/// Takes values of one type and delivers them to whoever is behind it, so an actor needs to know what
/// it gives out but not who takes it.
pub struct Outlet<T> {
    role: Arc<str>,
    send: Arc<dyn Fn(T) -> Result<(), Undelivered> + Send + Sync>,
}

impl<T: Send + 'static> Outlet<T> {
    /// An outlet to whoever serves `role`, looked up each time; `wrap` makes a message of a value.
    pub fn to_role<M: Message>(
        directory: &Directory,
        role: &str,
        wrap: impl Fn(T) -> M + Send + Sync + 'static,
    ) -> Self {
        let (directory, name) = (directory.clone(), role.to_owned());
        let send = move |value| directory.tell(&name, wrap(value));
        Self { role: role.into(), send: Arc::new(send) }
    }

    /// An outlet to one actor for as long as it lives: for the length of a stream session.
    pub fn to_actor<M: Message>(
        actor: &ActorRef<M>,
        wrap: impl Fn(T) -> M + Send + Sync + 'static,
    ) -> Self {
        let actor = actor.clone();
        let role: Arc<str> = "actor".into();
        let gone = Undelivered { role: role.to_string() };
        let send = move |value| actor.cast(wrap(value)).map_err(|_| gone.clone());
        Self { role, send: Arc::new(send) }
    }

    /// An outlet to one stream of an actor that takes frames when it is at work anyway, and is woken by
    /// `wake` when it waits for one.
    pub fn to_inbox<M: Message, B>(
        inbox: &Inbox<B>,
        input: usize,
        actor: &ActorRef<M>,
        wake: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self
    where
        T: Into<Delivery<B>>,
        B: Send + Sync + 'static,
    {
        let (inbox, actor) = (inbox.clone(), actor.clone());
        let role: Arc<str> = "actor".into();
        let gone = Undelivered { role: role.to_string() };
        let send = move |value: T| {
            if inbox.put(input, value.into()) {
                return actor.cast(wake()).map_err(|_| gone.clone());
            }
            if is_running(&actor) { Ok(()) } else { Err(gone.clone()) }
        };
        Self { role, send: Arc::new(send) }
    }

    /// An outlet into a channel, for tests and for code that is not an actor.
    pub fn to_channel() -> (Self, mpsc::UnboundedReceiver<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let role: Arc<str> = "channel".into();
        let gone = Undelivered { role: role.to_string() };
        let send = move |value| sender.send(value).map_err(|_| gone.clone());
        (Self { role, send: Arc::new(send) }, receiver)
    }

    /// An outlet to whatever `send` does with a value.
    pub fn to_function(
        role: &str,
        send: impl Fn(T) -> Result<(), Undelivered> + Send + Sync + 'static,
    ) -> Self {
        Self { role: role.into(), send: Arc::new(send) }
    }

    /// Queues `value` with the receiver. Delivery is at most once.
    ///
    /// # Errors
    ///
    /// [`Undelivered`] when there is no receiver.
    pub fn send(&self, value: T) -> Result<(), Undelivered> {
        (self.send)(value)
    }
}

fn is_running<M>(actor: &ActorRef<M>) -> bool {
    !matches!(actor.get_status(), ActorStatus::Stopping | ActorStatus::Stopped)
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { role: Arc::clone(&self.role), send: Arc::clone(&self.send) }
    }
}

impl<T> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("role", &self.role).finish_non_exhaustive()
    }
}
