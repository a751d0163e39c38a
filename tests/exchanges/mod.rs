//! A simulated exchange as a process of its own, and a client that signs.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tickwright::kit::Clock;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Nothing here may take longer. Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const KEY: &str = "key-of-one";
pub(crate) const SECRET: &str = "s3cr3t-of-one";
pub(crate) const OTHER_KEY: &str = "key-of-two";
pub(crate) const OTHER_SECRET: &str = "s3cr3t-of-two";

const ORDER: &str = "/api/v3/order";

/// What came back: status, `Retry-After`, body. An error is a connection that ended without.
pub(crate) type Answered = Result<(u16, Option<u64>, Value), String>;

/// An exchange that can be killed and started again with its log.
#[derive(Debug)]
pub(crate) struct Exchange {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    /// The line that it said when it was ready.
    pub(crate) ready: Value,
    options: Vec<String>,
    directory: tempfile::TempDir,
}

impl Exchange {
    /// An exchange whose market stands still, with two accounts.
    pub(crate) fn start(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let mut exchange = Self {
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready: Value::Null,
            options,
            directory: tempfile::tempdir().unwrap(),
        };
        exchange.start_again();
        exchange
    }

    /// Starts it where it was, with what its log says.
    pub(crate) fn come_back(&mut self) {
        self.options.extend(["--listen".to_owned(), self.address.to_string()]);
        self.start_again();
    }

    /// Starts it with what its log says.
    pub(crate) fn start_again(&mut self) {
        let keys = self.path("keys");
        let text = format!("# ours\none={KEY}:{SECRET}\ntwo={OTHER_KEY}:{OTHER_SECRET}\n");
        std::fs::write(&keys, text).unwrap();
        let errors = File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tickwright"))
            .arg("exchange")
            .args(["--keys", keys.to_str().unwrap(), "--log", self.log().to_str().unwrap()])
            .args(["--symbols", "A/B:price=100:tick=1:step=1:notional_min=2", "--step-ms", "0"])
            .args(&self.options)
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.child = Some(child);
        let (sender, receiver) = mpsc::channel();
        // Ends with the process.
        std::thread::spawn(move || {
            let _ = sender.send(lines.next());
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap();
        let line = line.unwrap_or_else(|| panic!("it has ended: {}", self.errors())).unwrap();
        self.ready = serde_json::from_str(&line).unwrap();
        self.address = self.ready["address"].as_str().unwrap().parse().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// What it has written to standard error, in all its lives.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; how it ended.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let process = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if since.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("it does not end: {}", self.errors());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        key: Option<&str>,
        body: &str,
    ) -> Answered {
        let request = Request::builder().method(method).uri(target).header("host", "exchange");
        let request =
            key.into_iter().fold(request, |request, key| request.header("x-mbx-apikey", key));
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        let ask = async {
            let stream = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
            let answer = async {
                let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
                let status = response.status().as_u16();
                let wait = response.headers().get("retry-after");
                let wait = wait.map(|value| value.to_str().unwrap().parse().unwrap());
                let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
                Ok((status, wait, serde_json::from_slice(&body.to_bytes()).unwrap()))
            };
            // Both in one task: whoever drops this drops the connection.
            tokio::pin!(answer, connection);
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                _ = &mut connection => answer.await,
            }
        };
        timeout(PATIENCE, ask).await.expect("an answer, or an end of the connection")
    }

    /// A signed request, with `timestamp` of now unless `query` has one.
    pub(crate) async fn signed(&self, method: &str, path: &str, query: &str) -> Answered {
        self.signed_by((KEY, SECRET), method, path, query).await
    }

    pub(crate) async fn signed_by(
        &self,
        (key, secret): (&str, &str),
        method: &str,
        path: &str,
        query: &str,
    ) -> Answered {
        let time = if query.contains("timestamp=") {
            String::new()
        } else {
            format!("&timestamp={}", Clock::system().now().as_nanos() / 1_000_000)
        };
        let query = format!("{query}{time}");
        let target = format!("{path}?{query}&signature={}", sign(secret, &query));
        self.send(method, &target, Some(key), "").await
    }

    /// An order to buy one for 100, with more parameters.
    pub(crate) async fn buy(&self, more: &str) -> Answered {
        let query =
            "symbol=AB&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=100&recvWindow=60000";
        let query = if more.contains("recvWindow") {
            query.trim_end_matches("&recvWindow=60000")
        } else {
            query
        };
        self.signed("POST", ORDER, &format!("{query}&{more}")).await
    }

    /// Account two sells `quantity` at 100.
    pub(crate) async fn other_sells(&self, quantity: u32) -> Answered {
        let query = format!(
            "symbol=AB&side=SELL&type=LIMIT&timeInForce=GTC&quantity={quantity}&price=100&\
             recvWindow=60000"
        );
        self.signed_by((OTHER_KEY, OTHER_SECRET), "POST", ORDER, &query).await
    }

    /// The account's order of this id; its code, if there is none.
    pub(crate) async fn order(&self, client_id: &str) -> Result<Value, i64> {
        let query = format!("symbol=AB&origClientOrderId={client_id}&recvWindow=60000");
        let (status, _, body) = self.signed("GET", ORDER, &query).await.unwrap();
        if status == 200 { Ok(body) } else { Err(body["code"].as_i64().unwrap()) }
    }

    /// What an open question answers, which must be answered.
    pub(crate) async fn get(&self, target: &str) -> Value {
        let (status, _, body) = self.send("GET", target, None, "").await.unwrap();
        assert_eq!(status, 200, "{target}: {body}");
        body
    }

    /// Sends JSON to the door of whoever runs it.
    pub(crate) async fn command(&self, path: &str, body: Value) -> Value {
        let (status, _, answer) = self.send("POST", path, None, &body.to_string()).await.unwrap();
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    pub(crate) async fn fault(&self, fault: Value) {
        self.command("/exchange/faults", fault).await;
    }

    /// No faults any more.
    pub(crate) async fn clear(&self) {
        let cleared = self.send("DELETE", "/exchange/faults", None, "").await.unwrap();
        assert_eq!(cleared.0, 200);
    }

    /// The market outside buys and sells so much at 99 and 101.
    pub(crate) async fn market(&self, bid: u32, ask: u32, quantity: u32) {
        let amount = |number: u32| number.to_string();
        let market = json!({
            "symbol": "AB",
            "bid": amount(bid),
            "bid_quantity": amount(quantity),
            "ask": amount(ask),
            "ask_quantity": amount(quantity),
        });
        self.command("/exchange/market", market).await;
    }

    /// One of the judge's counts.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.get("/exchange/judge").await[name].as_u64().unwrap()
    }

    /// Waits until the judge counts so much.
    pub(crate) async fn comes_to_count(&self, name: &str, count: u64) {
        let wait = async {
            while self.count(name).await != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{name} does not come to {count}");
    }

    /// Waits until the only fault has struck.
    pub(crate) async fn has_struck(&self) {
        let wait = async {
            while self.get("/exchange/faults").await[0]["struck"] == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "the fault does not strike");
    }

    /// A key to listen by.
    pub(crate) async fn listen_key(&self) -> String {
        let answer = self.send("POST", "/api/v3/userDataStream", Some(KEY), "").await.unwrap();
        answer.2["listenKey"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn listen(&self, key: &str) -> Result<Listener, String> {
        let url = format!("ws://{}/ws/{key}", self.address);
        let connected = timeout(PATIENCE, connect_async(url)).await.unwrap();
        connected.map(|(socket, _)| Listener(socket)).map_err(|error| error.to_string())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Who is told what happens to account one.
#[derive(Debug)]
pub(crate) struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    /// The next message; nothing if the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a message, or an end") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// What the next message says of an order: what happened, its state, its client's id.
    pub(crate) async fn report(&mut self) -> (String, String, String) {
        loop {
            let message = self.next().await.expect("a message");
            if message["e"] == "executionReport" {
                let text = |name: &str| message[name].as_str().unwrap().to_owned();
                return (text("x"), text("X"), text("c"));
            }
        }
    }
}

/// The signature of a text, in hexadecimal digits.
pub(crate) fn sign(secret: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, text.as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs `tickwright exchange` to its end.
pub(crate) fn run(arguments: &[&str]) -> (i32, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_tickwright"))
        .arg("exchange")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&all).into_owned())
}

/// What the judge says of a log, and how it ends.
pub(crate) fn judge(log: &Path) -> (i32, String) {
    run(&["--judge", log.to_str().unwrap()])
}

/// The code of an answer that is a refusal.
pub(crate) fn code(answered: &Answered) -> (u16, i64) {
    let (status, _, body) = answered.as_ref().unwrap();
    (*status, body["code"].as_i64().unwrap_or_default())
}
