//! The way to Redis: one connection for all, made anew when it is lost.
//!
//! Several addresses are several servers of which one is the master: a replica that was promoted is found
//! by asking each.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::locks::LockError;

/// Commands that may be under way at once.
const IN_FLIGHT_MAX: usize = 256;

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisAddress {
    /// Each `redis://HOST:PORT`, without a password.
    pub urls: Vec<String>,
    /// What the servers want to hear; never shown.
    pub password: Option<String>,
    /// How long one command may take, connecting included.
    pub patience: Duration,
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisAddress").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Clones share the connection.
#[derive(Clone)]
pub(super) struct Connection {
    address: Arc<RedisAddress>,
    /// Never held across a wait: everybody looks at it for every request.
    current: Arc<Mutex<Option<MultiplexedConnection>>>,
    /// Held by whoever connects.
    connecting: Arc<tokio::sync::Mutex<()>>,
    in_flight: Arc<Semaphore>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What is to be said, given a connection to say it by.
pub(super) trait Say<T> {
    /// Says it once.
    fn say(
        &self,
        connection: MultiplexedConnection,
    ) -> impl Future<Output = Result<T, RedisError>> + Send;
}

impl Connection {
    pub(super) fn new(address: RedisAddress) -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let (current, connecting) = (Arc::default(), Arc::default());
        Self { address: Arc::new(address), current, connecting, in_flight }
    }

    /// Says something once, within the time that a command has.
    pub(super) async fn say<T>(&self, what: &impl Say<T>) -> Result<T, LockError> {
        let patience = self.address.patience;
        let until = Instant::now() + patience;
        let _permit = self.permit(until).await?;
        let slow = || LockError::Away(format!("Redis was not reached within {patience:?}"));
        let kept = self.current().clone();
        let connection = match kept {
            Some(connection) => connection,
            None => timeout_at(until, self.connection()).await.map_err(|_| slow())??,
        };
        match timeout_at(until, what.say(connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                // A server that has become a replica, or loads its data, takes nothing for certain.
                let is_answer = error.code().is_some();
                let reason = format!("Redis: {}", error.code().unwrap_or("the connection broke"));
                tracing::debug!(%error, "Redis");
                self.forget();
                Err(if is_answer { LockError::Away(reason) } else { LockError::Unknown(reason) })
            }
            Err(_) => {
                self.forget();
                Err(LockError::Unknown(format!("Redis gave no answer within {patience:?}")))
            }
        }
    }

    async fn permit(&self, until: Instant) -> Result<SemaphorePermit<'_>, LockError> {
        if let Ok(permit) = self.in_flight.try_acquire() {
            return Ok(permit);
        }
        let busy = || LockError::Busy("too many requests to Redis are under way".into());
        let permit = timeout_at(until, self.in_flight.acquire()).await.map_err(|_| busy())?;
        permit.map_err(|_| busy())
    }

    fn current(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request connects anew.
    pub(super) fn forget(&self) {
        *self.current() = None;
    }

    async fn connection(&self) -> Result<MultiplexedConnection, LockError> {
        let _turn = self.connecting.lock().await;
        // Somebody else may have connected meanwhile.
        let kept = self.current().clone();
        if let Some(connection) = kept {
            return Ok(connection);
        }
        let mut trouble = Vec::new();
        for url in &self.address.urls {
            match self.connect(url).await {
                Ok(connection) => {
                    *self.current() = Some(connection.clone());
                    return Ok(connection);
                }
                Err(reason) => trouble.push(format!("{url}: {reason}")),
            }
        }
        Err(LockError::Away(format!("no master among the Redis servers: {}", trouble.join("; "))))
    }

    async fn connect(&self, url: &str) -> Result<MultiplexedConnection, String> {
        // What the library says of an address could hold a password.
        let info: ConnectionInfo =
            url.into_connection_info().map_err(|_| "no address of Redis".to_owned())?;
        let mut settings = info.redis_settings().clone();
        if let Some(password) = &self.address.password {
            settings = settings.set_password(password);
        }
        let client = Client::open(info.set_redis_settings(settings));
        let client = client.map_err(|_| "no address of Redis".to_owned())?;
        // The servers together have the time of one command.
        let servers = u32::try_from(self.address.urls.len()).unwrap_or(u32::MAX).max(1);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.address.patience / servers))
            .set_response_timeout(Some(self.address.patience));
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| match error.code() {
            Some(code) => code.to_owned(),
            None => error.category().to_owned(),
        })?;
        match role(&mut connection).await.as_deref() {
            Ok("master") => Ok(connection),
            Ok(role) => Err(format!("it is a {role}")),
            Err(error) => Err(error.code().unwrap_or("no answer").to_owned()),
        }
    }
}

async fn role(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let told: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    Ok(match told.first() {
        Some(Value::BulkString(role)) => String::from_utf8_lossy(role).into_owned(),
        Some(Value::SimpleString(role)) => role.clone(),
        _ => String::new(),
    })
}

/// Whether it is a master.
pub(super) struct Role;

impl Say<String> for Role {
    async fn say(&self, mut connection: MultiplexedConnection) -> Result<String, RedisError> {
        role(&mut connection).await
    }
}
