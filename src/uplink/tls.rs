//! TLS to the broker: its certificate is always verified, ours is shown where one is configured.
//!
//! Authorities, certificate and key are read at each connect, so that a renewed one needs no
//! restart: it is used from the next connection on. What is wrong with a file is said with its
//! name. The broker must be called in its certificate as `mqtt.broker` calls it.

use std::path::Path;
use std::sync::Arc;

use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::secret;
use crate::config::MqttTable;

/// How to reach the broker; `None` is plain TCP.
///
/// # Errors
///
/// Which file cannot be read or used, and why.
pub fn transport(table: &MqttTable) -> Result<Option<Transport>, String> {
    let Some(ca_file) = &table.ca_file else { return Ok(None) };
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(authorities(Path::new(ca_file))?);
    let config = match &table.certificate_file {
        None => config.with_no_client_auth(),
        Some(file) => {
            let chain = certificates(Path::new(file))?;
            let key = secret(&table.key_credential, &table.key_file)?;
            let key = key.ok_or("a certificate without a key")?;
            let private = PrivateKeyDer::from_pem_file(&key)
                .map_err(|error| format!("key in {}: {error}", key.display()))?;
            // Also where the two do not belong together.
            config
                .with_client_auth_cert(chain, private)
                .map_err(|error| format!("{file} with the key in {}: {error}", key.display()))?
        }
    };
    Ok(Some(Transport::Tls(TlsConfiguration::Rustls(Arc::new(config)))))
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(roots)
}

/// All certificates of a file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let say = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| say(&error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| say(&error))?;
    if all.is_empty() {
        return Err(say(&"no certificate in it"));
    }
    Ok(all)
}
