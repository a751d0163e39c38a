//! Real database servers, started from the system's packages for the length of a test: on free ports, in a
//! temporary directory, killed by their own process when they are dropped.

#![allow(unreachable_pub, reason = "a module of each test, not of a crate")]
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than any server takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

/// A server with databases of its own.
pub struct Server {
    kind: Kind,
    /// Where its binaries are.
    binaries: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    owner: Option<(u32, u32)>,
    process: Option<Child>,
    databases: u32,
    /// Whether nothing but TLS gets in over the network.
    has_tls: bool,
}

impl Server {
    /// A running server; none, and a loud word, where it is not installed.
    pub fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, None)
    }

    /// The same, which lets in nobody over the network but by TLS, with this certificate and its key.
    pub fn start_with_tls(kind: Kind, certificate: (&str, &str)) -> Option<Self> {
        Self::start_with(kind, Some(certificate))
    }

    fn start_with(kind: Kind, certificate: Option<(&str, &str)>) -> Option<Self> {
        let Some(binaries) = find(kind) else {
            let package = match kind {
                Kind::Postgres => "postgresql",
                Kind::Mariadb => "mariadb-server",
            };
            eprintln!("SKIPPED: {kind:?} is not installed; `apt-get install {package}` brings it");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self {
            kind,
            binaries,
            directory,
            port: 0,
            owner: owner(),
            process: None,
            databases: 0,
            has_tls: certificate.is_some(),
        };
        let path = server.directory.path().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let data = path.join("data");
        fs::create_dir(&data).unwrap();
        if let Some((user, group)) = server.owner {
            chown(&path, Some(user), Some(group)).unwrap();
            chown(&data, Some(user), Some(group)).unwrap();
        }
        server.prepare();
        if let Some(certificate) = certificate {
            server.certify(certificate);
        }
        server.run();
        Some(server)
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // PostgreSQL refuses to be run by root.
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn log(&self) -> Stdio {
        let path = self.directory.path().join("log");
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().into()
    }

    fn prepare(&self) {
        let data = self.directory.path().join("data");
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command(self.binaries.join("initdb"));
                command.arg("-D").arg(&data).args([
                    "-U",
                    "tickwright",
                    "-A",
                    "trust",
                    "--no-sync",
                    "-E",
                    "UTF8",
                    "--locale=C",
                ]);
                command
            }
            Kind::Mariadb => {
                let init = self.directory.path().join("init.sql");
                let sql = "CREATE USER IF NOT EXISTS 'tickwright'@'%' IDENTIFIED BY 's3cret';\n\
                           GRANT ALL ON *.* TO 'tickwright'@'%';\n";
                fs::write(init, sql).unwrap();
                let mut command = self.command("mariadb-install-db");
                command
                    .arg("--no-defaults")
                    .arg(format!("--datadir={}", data.display()))
                    .args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                command
            }
        };
        let done = command.output().unwrap();
        assert!(
            done.status.success(),
            "{:?}: {}",
            self.kind,
            String::from_utf8_lossy(&done.stderr)
        );
    }

    fn certify(&self, (certificate, key): (&str, &str)) {
        let path = self.directory.path();
        for (name, text) in [("server.pem", certificate), ("server.key", key)] {
            let file = path.join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = self.owner {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
        if self.kind == Kind::Postgres {
            let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
            fs::write(path.join("data/pg_hba.conf"), rules).unwrap();
        }
    }

    /// What a server is started with so that it speaks TLS.
    fn tls_options(&self) -> Vec<String> {
        if !self.has_tls {
            return Vec::new();
        }
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let (certificate, key) = (file("server.pem"), file("server.key"));
        match self.kind {
            Kind::Postgres => [
                "ssl=on".to_owned(),
                format!("ssl_cert_file={certificate}"),
                format!("ssl_key_file={key}"),
            ]
            .into_iter()
            .flat_map(|setting| ["-c".to_owned(), setting])
            .collect(),
            Kind::Mariadb => vec![
                format!("--ssl-cert={certificate}"),
                format!("--ssl-key={key}"),
                "--require-secure-transport=ON".to_owned(),
            ],
        }
    }

    /// Starts it, and waits until it answers.
    pub fn run(&mut self) {
        let (path, data) = (self.directory.path().to_owned(), self.directory.path().join("data"));
        let deadline = Instant::now() + PATIENCE;
        // A port may be taken between being looked for and being used.
        loop {
            if self.port == 0 {
                self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            }
            let mut command = match self.kind {
                Kind::Postgres => {
                    let mut command = self.command(self.binaries.join("postgres"));
                    command.arg("-D").arg(&data).arg("-k").arg(&path);
                    command.args(["-p", &self.port.to_string(), "-c", "fsync=off"]);
                    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB"]);
                    command
                }
                Kind::Mariadb => {
                    let mut command = self.command(self.binaries.join("mariadbd"));
                    command
                        .arg("--no-defaults")
                        .arg(format!("--datadir={}", data.display()))
                        .arg(format!("--socket={}", path.join("socket").display()))
                        .arg(format!("--pid-file={}", path.join("pid").display()))
                        .arg(format!("--init-file={}", path.join("init.sql").display()))
                        .arg(format!("--port={}", self.port))
                        .args(["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"])
                        .args(["--innodb-buffer-pool-size=16M", "--skip-log-bin"]);
                    command
                }
            };
            command.args(self.tls_options());
            let process = command.stdout(self.log()).stderr(self.log()).spawn().unwrap();
            self.process = Some(process);
            while self.try_ask("SELECT 1").is_none() {
                assert!(Instant::now() < deadline, "{:?}: {}", self.kind, self.said());
                if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if self.process.as_mut().unwrap().try_wait().unwrap().is_none() {
                return;
            }
            assert!(Instant::now() < deadline, "{:?} ends: {}", self.kind, self.said());
            // Whoever knows the address expects it there.
            if self.databases == 0 {
                self.port = 0;
            }
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn try_ask(&self, sql: &str) -> Option<String> {
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command(self.binaries.join("psql"));
                // By its socket, to which TLS does not apply.
                let host = self.directory.path().to_str().unwrap();
                let host = if self.has_tls { host } else { "127.0.0.1" };
                command.args(["-h", host, "-p", &port, "-U", "tickwright", "-tAc", sql]);
                command.arg("postgres");
                command
            }
            Kind::Mariadb => {
                let mut command = self.command("mariadb");
                command.arg("--no-defaults");
                if self.has_tls {
                    command.arg("-S").arg(self.directory.path().join("socket"));
                } else {
                    command.args(["-h", "127.0.0.1", "-P", &port]);
                }
                command.args(["-utickwright", "-ps3cret", "-e", sql]);
                command
            }
        };
        let done = command.output().unwrap();
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// The address of a new, empty database.
    pub fn database(&mut self) -> String {
        self.databases += 1;
        let name = format!("case_{}", self.databases);
        self.try_ask(&format!("CREATE DATABASE {name}")).unwrap();
        let port = self.port;
        match self.kind {
            Kind::Postgres => format!("postgres://tickwright:unused@127.0.0.1:{port}/{name}"),
            Kind::Mariadb => format!("mysql://tickwright:s3cret@127.0.0.1:{port}/{name}"),
        }
    }

    /// Ends it as a crash would; what it has stored stays.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let signal = if self.kind == Kind::Postgres { "-QUIT" } else { "-KILL" };
        let pid = process.id().to_string();
        // One that has ended is waited for all the same.
        let _ = Command::new("kill").args([signal, &pid]).status();
        let _ = process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn find(kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Postgres => {
            let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
            let mut found: Vec<PathBuf> =
                versions.flatten().map(|version| version.path().join("bin")).collect();
            found.retain(|path| path.join("postgres").is_file() && path.join("initdb").is_file());
            found.sort();
            found.pop()
        }
        Kind::Mariadb => {
            let places = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from);
            places.into_iter().find(|path| path.join("mariadbd").is_file())
        }
    }
}

/// Whom servers are run by where the tests are run by root.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    Some(of("nobody").unwrap())
}
