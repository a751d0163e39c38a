//! Relays on loopback: every node is reached through one, which finds out who dials from the name in its
//! introduction, and holds back what must not pass. Connections stay open and silent meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::Node;

/// Between two looks at whether something may pass.
const LOOK: Duration = Duration::from_millis(2);

/// How long bytes may stay unacknowledged at the default heartbeat.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How long a dialler may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(30);

pub(crate) struct Relays {
    shared: Arc<Shared>,
    /// Until the node behind it is known.
    listeners: Vec<Option<TcpListener>>,
    ports: Vec<u16>,
}

struct Shared {
    names: Vec<&'static str>,
    /// From each to each.
    is_held: Vec<AtomicBool>,
    /// Bytes a second that each may send; 0 is no bound.
    rates: Vec<AtomicU64>,
}

impl Relays {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let count = names.len();
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listeners: Vec<TcpListener> = names.iter().map(|_| listen()).collect();
        let ports = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        let shared = Shared {
            names: names.to_vec(),
            is_held: (0..count * count).map(|_| AtomicBool::new(false)).collect(),
            rates: (0..count).map(|_| AtomicU64::new(0)).collect(),
        };
        let listeners = listeners.into_iter().map(Some).collect();
        Self { shared: Arc::new(shared), listeners, ports }
    }

    pub(crate) fn attach(&mut self, place: usize, node: Node) -> Node {
        let listener = self.listeners[place].take().expect("a node is attached once");
        let (shared, target) = (Arc::clone(&self.shared), node.port);
        // Ends with the test's process.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || relay(&shared, near, place, target));
            }
        });
        node.set("cluster.advertise", &self.address(place))
    }

    pub(crate) fn address(&self, place: usize) -> String {
        format!("127.0.0.1:{}", self.ports[place])
    }

    pub(crate) fn pass(&self, from: usize, to: usize, passes: bool) {
        self.shared.is_held[from * self.shared.names.len() + to].store(!passes, Ordering::SeqCst);
    }

    pub(crate) fn slow(&self, place: usize, bytes_per_second: Option<u64>) {
        self.shared.rates[place].store(bytes_per_second.unwrap_or(0), Ordering::SeqCst);
    }
}

impl Shared {
    fn holds(&self, from: usize, to: usize) -> bool {
        self.is_held[from * self.names.len() + to].load(Ordering::SeqCst)
    }

    /// Waits until something may pass.
    fn wait(&self, from: usize, to: usize) {
        while self.holds(from, to) {
            thread::sleep(LOOK);
        }
    }

    /// The same, with bytes in hand: whether they may be sent, or have waited for too long.
    fn wait_with_bytes(&self, from: usize, to: usize) -> bool {
        let since = Instant::now();
        while self.holds(from, to) {
            if since.elapsed() > UNACKNOWLEDGED {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// Who says so in its introduction.
    fn dialler(&self, said: &[u8]) -> Option<usize> {
        let found = |name: &&str| said.windows(name.len()).any(|part| part == name.as_bytes());
        self.names.iter().position(found)
    }
}

/// Carries one connection to the node at `to` until either side ends it.
fn relay(shared: &Arc<Shared>, mut near: TcpStream, to: usize, target: u16) {
    let mut said = vec![0; 1 << 16];
    near.set_read_timeout(Some(INTRODUCTION)).unwrap();
    let mut length = 0;
    let from = loop {
        match near.read(&mut said[length..]) {
            Ok(0) | Err(_) => return,
            Ok(more) => length += more,
        }
        if let Some(from) = shared.dialler(&said[..length]) {
            break from;
        }
    };
    shared.wait(from, to);
    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
    let [near_end, far_end] = [near.try_clone(), far.try_clone()].map(Result::unwrap);
    if far.write_all(&said[..length]).is_err() {
        return;
    }
    let back = Arc::clone(shared);
    let answers = thread::spawn(move || carry(&back, far_end, near_end, to, from));
    carry(shared, near, far, from, to);
    let _ = answers.join();
}

/// Carries one direction to its end, and then ends the connection.
fn carry(shared: &Shared, mut source: TcpStream, mut sink: TcpStream, from: usize, to: usize) {
    source.set_nodelay(true).unwrap();
    source.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = vec![0; 1 << 14];
    loop {
        let length = match source.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        if !shared.wait_with_bytes(from, to) {
            // The relay has taken them, and acknowledged them; of a real network the sender's system
            // would have had no word, and given the connection up, as the receiver's would.
            let _ = sink.shutdown(Shutdown::Both);
            let _ = source.shutdown(Shutdown::Both);
            return;
        }
        let rate = shared.rates[from].load(Ordering::SeqCst);
        if rate > 0 {
            thread::sleep(Duration::from_secs_f64(length as f64 / rate as f64));
        }
        if sink.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // Nobody hears of an end that cannot pass.
    shared.wait(from, to);
    let _ = sink.shutdown(Shutdown::Both);
    let _ = source.shutdown(Shutdown::Both);
}
