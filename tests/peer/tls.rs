//! TLS against mosquitto: who is let in, who is not, and what a renewed certificate needs.
//!
//! The judge listens on a plain listener of the same broker. Certificates are made for each test:
//! of the right authority or a stranger's, valid or expired, for this host or another.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

const HERE: &str = "127.0.0.1";

#[test]
fn a_broker_that_proves_itself_gets_records_from_one_that_does_too() {
    let Some(mut site) = Secured::start() else { return };
    let judge = Judge::start(site.broker.port);
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::with(dir.path(), site.port, &site.client("us", &site.ca, 2100));
    rig.store.queue().push((0..30).map(bay).collect(), Ticket(30), true);
    rig.drained(Duration::from_secs(20));
    assert_eq!(judge.lane(Lane::Events).0, (1..=30).collect::<Vec<u64>>());

    // Another authority for clients, and a new certificate of it in the same files: no restart.
    let renewed = Authority::new("the next one");
    site.client("us", &renewed, 2100);
    site.broker.stop();
    std::fs::write(site.file("clients.pem"), &renewed.pem).unwrap();
    rig.store.queue().push((0..30).map(bay).collect(), Ticket(60), true);
    site.broker.run();
    rig.drained(Duration::from_secs(20));
    assert!(rig.uplink.status().reconnects > 0);
    rig.stop();
}

#[test]
fn whoever_does_not_prove_itself_gets_nothing_and_is_told_why() {
    let Some(site) = Secured::start() else { return };
    let stranger = Authority::new("a stranger");
    std::fs::write(site.file("stranger.pem"), &stranger.pem).unwrap();
    let ca = |name: &str| format!("ca_file = \"{}\"\n", site.file(name).display());
    let strange = ca("stranger.pem");
    let expired = Secured::with(&site.ca, HERE, 2021).unwrap();
    let elsewhere = Secured::with(&site.ca, "broker.example", 2100).unwrap();
    let us = site.client("us", &site.ca, 2100);
    std::fs::write(site.file("empty.pem"), "").unwrap();
    let cases = [
        ("a stranger's broker", site.port, strange, "UnknownIssuer"),
        ("an expired broker", expired.port, us.clone(), "xpired"),
        ("a broker of another name", elsewhere.port, us, "not valid for name"),
        ("no certificate of ours", site.port, ca("ca.pem"), "ertificate"),
        ("ours expired", site.port, site.client("old", &site.ca, 2021), "xpired"),
        ("ours a stranger's", site.port, site.client("odd", &stranger, 2100), "CA"),
        ("an empty file", site.port, ca("empty.pem"), "empty.pem: no certificate in it"),
        ("no file", site.port, ca("none.pem"), "none.pem"),
    ];
    let dirs = cases.each_ref().map(|_| tempfile::tempdir().unwrap());
    let rigs: Vec<Rig> = dirs
        .iter()
        .zip(&cases)
        .map(|(dir, (_, port, mqtt, _))| Rig::with(dir.path(), *port, mqtt))
        .collect();
    for (rig, (what, _, _, why)) in rigs.into_iter().zip(&cases) {
        let began = Instant::now();
        let error = loop {
            if let Some(error) = rig.uplink.status().last_error {
                break error;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{what}: no error");
            std::thread::sleep(Duration::from_millis(20));
        };
        eprintln!("{what}: {error}");
        assert!(error.contains(why), "{what}: {error}");
        assert_eq!(rig.uplink.status().totals.sent, 0, "{what}: something was sent");
        rig.stop();
    }
}

/// An authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // OpenSSL takes a certificate that is called like its signer for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a name, good until a year begins, and its key.
    fn signs(&self, name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A broker with a TLS listener beside its plain one, which demands certificates.
struct Secured {
    broker: Broker,
    port: u16,
    ca: Arc<Authority>,
}

impl Secured {
    fn start() -> Option<Secured> {
        mosquitto()?;
        Secured::with(&Arc::new(Authority::new("ours")), HERE, 2100)
    }

    fn with(ca: &Arc<Authority>, name: &str, until: i32) -> Option<Secured> {
        let mut broker = Broker::start("")?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let site = |name: &str| broker.dir.path().join(name).display().to_string();
        let (certificate, key) = ca.signs(name, until);
        for (name, text) in [
            ("ca.pem", &ca.pem),
            ("clients.pem", &ca.pem),
            ("broker.pem", &certificate),
            ("broker.key", &key),
        ] {
            std::fs::write(site(name), text).unwrap();
        }
        let listener = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nrequire_certificate true\n\
             cafile {}\ncertfile {}\nkeyfile {}\n",
            site("clients.pem"),
            site("broker.pem"),
            site("broker.key")
        );
        let config = broker.dir.path().join("config");
        let plain = std::fs::read_to_string(&config).unwrap();
        std::fs::write(config, plain + &listener).unwrap();
        broker.stop();
        broker.run();
        Some(Secured { broker, port, ca: ca.clone() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.broker.dir.path().join(name)
    }

    /// Files of a client, and the lines that name them.
    fn client(&self, name: &str, ca: &Authority, until: i32) -> String {
        let (certificate, key) = ca.signs("edge-1", until);
        let paths = [self.file(&format!("{name}.pem")), self.file(&format!("{name}.key"))];
        std::fs::write(&paths[0], certificate).unwrap();
        std::fs::write(&paths[1], key).unwrap();
        let [certificate, key] = paths.map(|path| path.display().to_string());
        let ca = self.file("ca.pem").display().to_string();
        format!("ca_file = \"{ca}\"\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n")
    }
}
