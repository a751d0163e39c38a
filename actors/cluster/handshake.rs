//! Both ends of an introduction, each in a task of its own with a deadline.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorRef, RpcReplyPort};
use rustls::crypto::aws_lc_rs;
use tickwright_core::cluster::{Peer, Ticket, Timings};
use tickwright_core::domain::{Incarnation, NodeAddress};
use tokio::net::TcpStream;

use super::cut::{Cut, Line};
use super::hello::{
    self, Cookie, Go, Hello, HelloAnswer, HelloError, Introduction, Pass, Refusal, Welcome,
};
use super::links::LinksMessage;
use super::stream::{Connection, prepare};
use super::tls::{self, Identity, Tls};
use crate::kit::monotonic_nanos;

/// What every introduction of this node needs.
#[derive(Clone, Debug)]
pub(super) struct Introducer {
    pub(super) introduction: Introduction,
    pub(super) cookie: Cookie,
    pub(super) tls: Option<Tls>,
    pub(super) timings: Timings,
    /// How long an introduction may take.
    pub(super) patience: Duration,
    pub(super) links: ActorRef<LinksMessage>,
    /// What every connection goes through.
    pub(super) cut: Cut,
}

/// A connection on which both sides know each other.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) connection: Connection,
    pub(super) introduction: Introduction,
    pub(super) is_dialled: bool,
    pub(super) pass: Pass,
    pub(super) peer_pass: Pass,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Hello(HelloError),
    #[error("{0}")]
    Refused(Refusal),
    /// The certificate of either side was not accepted.
    #[error("certificates: {0}; both sides must trust the authority of the other's certificate")]
    Untrusted(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// There is a better connection to the same node.
    #[error("there is a connection already")]
    Abandoned(Peer),
}

impl DialError {
    /// Whether trying again is of no use.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_final(),
            Self::Untrusted(_) | Self::Hello(HelloError::Version { .. }) => true,
            Self::Hello(HelloError::Connection(_) | HelloError::Garbage | HelloError::HungUp)
            | Self::Timeout(_)
            | Self::Abandoned(_) => false,
        }
    }
}

impl DialError {
    /// The later life of this node that was seen there, if that is why.
    pub(super) fn stale(&self) -> Option<Incarnation> {
        if let Self::Refused(Refusal::Stale { known }) = self { Some(*known) } else { None }
    }
}

impl From<HelloError> for DialError {
    fn from(error: HelloError) -> Self {
        match error {
            // Certificates may turn out not to be accepted only with the first answer.
            HelloError::Connection(error) => error.into(),
            HelloError::Garbage | HelloError::HungUp | HelloError::Version { .. } => {
                Self::Hello(error)
            }
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
                Self::Untrusted(error.to_string())
            }
            // No TLS at all.
            Some(rustls::Error::InvalidMessage(_)) => Self::Hello(HelloError::Garbage),
            Some(_) | None => Self::Hello(HelloError::Connection(error)),
        }
    }
}

impl Introducer {
    /// Dials `address`: the connection may take `patience`, and the introduction has its own.
    pub(super) async fn dial(
        &self,
        address: &NodeAddress,
        patience: Duration,
    ) -> Result<Established, DialError> {
        let connected = tokio::time::timeout(patience, async {
            // Nobody answers a dial that does not leave the node.
            self.cut.is_whole().await;
            TcpStream::connect(&address.0).await
        });
        let stream = connected.await.map_err(|_| DialError::Timeout(patience))??;
        let introduced = tokio::time::timeout(self.patience, self.introduce(stream)).await;
        introduced.unwrap_or(Err(DialError::Timeout(self.patience)))
    }

    async fn introduce(&self, stream: TcpStream) -> Result<Established, DialError> {
        prepare(&stream, &self.timings)?;
        let line = Line::new(stream, self.cut.clone());
        let mut connection = match &self.tls {
            None => Connection::Plain(line),
            Some(tls) => {
                let stream = tls.connector().connect(tls::node_name(), line).await?;
                Connection::Tls(Box::new(stream.into()))
            }
        };
        let nonce = random_bytes();
        let hello = Hello { introduction: self.introduction.clone(), nonce };
        hello::write(&mut connection, &hello).await?;
        let answer = hello::read(&mut connection).await?;
        let (introduction, their_nonce, proof, pass) = match answer {
            HelloAnswer::Welcome(welcome) => {
                let Welcome { introduction, nonce, proof, pass } = *welcome;
                (introduction, nonce, proof, pass)
            }
            HelloAnswer::Refused(refusal) => return Err(DialError::Refused(refusal)),
        };
        let own = &self.introduction;
        if let Some(refusal) = own.refusal_of(&introduction) {
            return Err(DialError::Refused(refusal));
        }
        if !self.is_certified(&connection, &introduction) {
            let claimed = introduction.id;
            let message = format!("the node there says it is {claimed}, its certificate does not");
            return Err(DialError::Untrusted(message));
        }
        let nonces = [&nonce, &their_nonce];
        if self.cookie.proof("welcome", &introduction, own, nonces) != proof {
            return Err(DialError::Refused(Refusal::Cookie));
        }
        let peer = introduction.peer();
        if !self.ask(|reply| LinksMessage::Welcomed(peer.clone(), reply)).await.unwrap_or(false) {
            return Err(DialError::Abandoned(peer));
        }
        let peer_pass = random_pass();
        let proof = self.cookie.proof("go", own, &introduction, nonces);
        hello::write(&mut connection, &Go { proof, pass: peer_pass }).await?;
        connection.seal()?;
        Ok(Established { connection, introduction, is_dialled: true, pass, peer_pass })
    }

    /// Receives whoever is at the other end of `stream`. `heard` is told when they say something.
    pub(super) async fn receive(
        &self,
        stream: TcpStream,
        heard: &AtomicU64,
    ) -> Result<Established, DialError> {
        let received = tokio::time::timeout(self.patience, self.receive_unbounded(stream, heard));
        received.await.unwrap_or(Err(DialError::Timeout(self.patience)))
    }

    async fn receive_unbounded(
        &self,
        stream: TcpStream,
        heard: &AtomicU64,
    ) -> Result<Established, DialError> {
        prepare(&stream, &self.timings)?;
        let line = Line::new(stream, self.cut.clone());
        let mut connection = match &self.tls {
            None => Connection::Plain(line),
            Some(tls) => {
                let stream = tls.acceptor().accept(line).await?;
                Connection::Tls(Box::new(stream.into()))
            }
        };
        heard.store(monotonic_nanos(), Ordering::Relaxed);
        let hello: Hello = match hello::read(&mut connection).await {
            Ok(hello) => hello,
            Err(error) => {
                if matches!(error, HelloError::Version { .. }) {
                    // The head of any frame tells our version; they need not understand the rest.
                    hello::write(&mut connection, &HelloAnswer::Refused(Refusal::Leaving)).await?;
                }
                return Err(error.into());
            }
        };
        heard.store(monotonic_nanos(), Ordering::Relaxed);
        let Hello { introduction, nonce } = hello;
        let own = &self.introduction;
        let claimed = introduction.id.clone();
        let refusal = if self.is_certified(&connection, &introduction) {
            own.refusal_of(&introduction)
        } else {
            Some(Refusal::Certificate { claimed })
        };
        let ticket = match refusal {
            Some(refusal) => Err(refusal),
            None => self
                .ask(|reply| LinksMessage::Hello(introduction.peer(), reply))
                .await
                .unwrap_or(Err(Refusal::Leaving)),
        };
        let number = match ticket {
            Ok(number) => number,
            Err(refusal) => {
                hello::write(&mut connection, &HelloAnswer::Refused(refusal.clone())).await?;
                return Err(DialError::Refused(refusal));
            }
        };
        let mut ticket =
            HeldTicket { links: &self.links, peer: introduction.peer(), number: Some(number) };
        let (own_nonce, peer_pass) = (random_bytes(), random_pass());
        let nonces = [&nonce, &own_nonce];
        let welcome = HelloAnswer::Welcome(Box::new(Welcome {
            introduction: own.clone(),
            nonce: own_nonce,
            proof: self.cookie.proof("welcome", own, &introduction, nonces),
            pass: peer_pass,
        }));
        hello::write(&mut connection, &welcome).await?;
        let Go { proof, pass } = hello::read(&mut connection).await?;
        if self.cookie.proof("go", &introduction, own, nonces) != proof {
            return Err(DialError::Refused(Refusal::Cookie));
        }
        ticket.number = None;
        let peer = introduction.peer();
        if !self.ask(|reply| LinksMessage::Go(peer.clone(), number, reply)).await.unwrap_or(false) {
            return Err(DialError::Abandoned(peer));
        }
        connection.seal()?;
        Ok(Established { connection, introduction, is_dialled: false, pass, peer_pass })
    }

    /// Whether the peer is the node that it says it is, as far as certificates can tell.
    fn is_certified(&self, connection: &Connection, introduction: &Introduction) -> bool {
        if self.tls.is_none() {
            return true;
        }
        connection.peer_certificate().is_some_and(|certificate| {
            tls::identity(certificate) == Identity::Node(introduction.id.0.clone())
        })
    }

    /// Asks the actor that owns the decisions.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(RpcReplyPort<T>) -> LinksMessage,
    ) -> Option<T> {
        match self.links.call(question, Some(self.patience)).await {
            Ok(CallResult::Success(answer)) => Some(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => None,
        }
    }
}

/// Gives a ticket back when its connection fails.
struct HeldTicket<'i> {
    links: &'i ActorRef<LinksMessage>,
    peer: Peer,
    number: Option<Ticket>,
}

impl Drop for HeldTicket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // An actor that has ended holds no tickets.
            let _ = self.links.cast(LinksMessage::InboundEnded(self.peer.clone(), number));
        }
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system gives random numbers");
    bytes
}

fn random_pass() -> Pass {
    u128::from_le_bytes(random_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use ractor::{Actor, ActorProcessingErr};
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
        IsCa, Issuer, KeyPair,
    };
    use tickwright_core::config::TlsFiles;
    use tickwright_core::domain::Span;
    use tokio::net::TcpListener;

    use super::*;
    use crate::kit::certificate::{NODE, TOOL};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Lets everybody in whom the introduction lets in.
    struct LetsIn;

    impl Actor for LetsIn {
        type Msg = LinksMessage;
        type State = ();
        type Arguments = ();

        async fn pre_start(
            &self,
            _myself: ActorRef<LinksMessage>,
            _arguments: (),
        ) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _myself: ActorRef<LinksMessage>,
            message: LinksMessage,
            _state: &mut (),
        ) -> Result<(), ActorProcessingErr> {
            // A caller that left fails its own test.
            match message {
                LinksMessage::Hello(_, reply) => {
                    let _ = reply.send(Ok(1));
                }
                LinksMessage::Welcomed(_, reply) | LinksMessage::Go(_, _, reply) => {
                    let _ = reply.send(true);
                }
                LinksMessage::Wake
                | LinksMessage::Seed(_)
                | LinksMessage::Member(..)
                | LinksMessage::Dialled(..)
                | LinksMessage::Probed(..)
                | LinksMessage::InboundEnded(..)
                | LinksMessage::Received(_)
                | LinksMessage::Ready(..)
                | LinksMessage::Lost(_)
                | LinksMessage::Overdue(_)
                | LinksMessage::Close
                | LinksMessage::Introducer(_) => {}
            }
            Ok(())
        }
    }

    fn parameters(name: &str, names: Vec<String>) -> CertificateParams {
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    }

    /// An authority that has certified the nodes a and b, and a tool called ctl.
    fn authority() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: String, text: String| {
            let path = directory.path().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let (mut own, key) = (parameters("ca", Vec::new()), KeyPair::generate().unwrap());
        own.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = own.self_signed(&key).unwrap().pem();
        write("ca.pem".to_owned(), certificate);
        let issuer = Issuer::new(own, key);
        let names = |node: &str| vec![NODE.to_owned(), format!("{node}.{NODE}")];
        for (name, names) in [("a", names("a")), ("b", names("b")), ("ctl", vec![TOOL.to_owned()])]
        {
            let (mut certified, key) = (parameters(name, names), KeyPair::generate().unwrap());
            certified.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
            let certificate = certified.signed_by(&key, &issuer).unwrap().pem();
            write(format!("{name}.pem"), certificate);
            write(format!("{name}.key"), key.serialize_pem());
        }
        directory
    }

    /// A node that says it is `name`, with the certificate of `certified`.
    fn introducer(
        directory: &Path,
        certified: &str,
        name: &str,
        links: &ActorRef<LinksMessage>,
    ) -> Introducer {
        let path = |file: &str| directory.join(file).display().to_string();
        let files = TlsFiles {
            ca: path("ca.pem"),
            cert: path(&format!("{certified}.pem")),
            key: path(&format!("{certified}.key")),
        };
        Introducer {
            introduction: Introduction {
                cluster: "c".into(),
                id: name.into(),
                incarnation: Incarnation(1),
                address: "a:1".into(),
                program: "0".into(),
                schema: [0; 32],
                config: [0; 32],
                gateway: 7,
            },
            cookie: Cookie::new("c", b"secret"),
            tls: Some(Tls::open(&files).unwrap()),
            timings: Timings::from_heartbeat(Span::from_millis(500)),
            patience: PATIENCE,
            links: links.clone(),
            cut: Cut::default(),
        }
    }

    /// What comes of it on either side when one, given by certificate and name, dials the other.
    async fn meet(dialler: [&str; 2], acceptor: [&str; 2]) -> [Result<Established, DialError>; 2] {
        let directory = authority();
        let (links, _) = Actor::spawn(None, LetsIn, ()).await.unwrap();
        let [dialler, acceptor] = [dialler, acceptor]
            .map(|[certified, name]| introducer(directory.path(), certified, name, &links));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = NodeAddress(listener.local_addr().unwrap().to_string());
        let heard = AtomicU64::new(0);
        let received = Box::pin(async {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.receive(stream, &heard).await
        });
        let (dialled, received) =
            tokio::join!(Box::pin(dialler.dial(&address, PATIENCE)), received);
        links.stop(None);
        [dialled, received]
    }

    #[tokio::test]
    async fn nodes_meet_under_the_names_that_they_are_certified_for() {
        let [dialled, received] = meet(["b", "b"], ["a", "a"]).await;
        assert_eq!(dialled.unwrap().introduction.id.0, "a");
        assert_eq!(received.unwrap().introduction.id.0, "b");
    }

    #[tokio::test]
    async fn whoever_dials_under_another_name_than_it_is_certified_for_is_refused() {
        for (certified, name) in [("b", "c"), ("b", "a"), ("ctl", "ctl")] {
            for told in meet([certified, name], ["a", "a"]).await {
                let is_refused = matches!(
                    &told,
                    Err(DialError::Refused(Refusal::Certificate { claimed })) if claimed.0 == name
                );
                assert!(is_refused, "{certified} as {name}: {told:?}");
                assert!(told.is_err_and(|error| error.is_final()), "it would be tried again");
            }
        }
    }

    #[tokio::test]
    async fn whoever_answers_under_another_name_than_it_is_certified_for_is_left() {
        let [dialled, received] = meet(["a", "a"], ["b", "c"]).await;
        let error = dialled.unwrap_err();
        assert!(error.is_final(), "{error}");
        let said = "the node there says it is c, its certificate does not";
        assert!(matches!(&error, DialError::Untrusted(why) if why == said), "{error}");
        assert!(received.is_err(), "it was let in");
    }
}
