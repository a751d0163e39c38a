//! What the manager does with secrets: it looks whether they open here, and seals them anew. It tells none.

use serde_json::{Value as Json, json};
use tickwright_core::config::{ConfigScope, SealedValue, is_secret, live_value};
use tickwright_core::config_sync::Value;

use super::ConfigCall;
use super::actor::ConfigSyncState;
use super::answers::scope;
use crate::cluster::Reply;
use crate::kit::KeyRing;

/// A secret as it is kept.
struct Kept {
    /// With whom it is for.
    stored: String,
    /// None, if it is not sealed: another version may have written it.
    sealed: Option<SealedValue>,
    /// Whether another write stands beside it.
    is_contested: bool,
}

impl ConfigSyncState {
    /// The keys that `call` needed were read: why not, else.
    pub(super) fn on_keys(
        &mut self,
        ring: Result<KeyRing, String>,
        call: ConfigCall,
        reply: Reply,
    ) {
        match call {
            ConfigCall::Set { place, value, priority, merge, author } => {
                if merge != "latest" {
                    return reply.refuse(format!(
                        "{}: secrets are read by the rule `latest`, not {merge}: sealed values have no order",
                        place.key
                    ));
                }
                let opens = live_value(&place.key, &value)
                    .map_err(|refusal| refusal.to_string())
                    .and_then(|value| self.opens(&ring, &place.stored(), &value));
                if let Err(reason) = opens {
                    return reply.refuse(reason);
                }
                self.set(&place, &value, (priority, &merge), author, reply);
            }
            ConfigCall::Rollback { place, steps, author } => {
                let stored = place.stored();
                let earlier = self.sync.history(&stored).rev().nth(steps);
                let opens = match earlier.and_then(|version| version.value.as_ref()) {
                    Some(value) => self.opens(&ring, &stored, value),
                    None => Ok(()),
                };
                match opens {
                    Ok(()) => self.roll_back(&place, steps, author, reply),
                    Err(reason) => reply.refuse(reason),
                }
            }
            ConfigCall::Secrets => {
                let answer = self.secrets(ring);
                reply.answer(answer.to_string().into_bytes());
            }
            ConfigCall::RotateSecrets { author } => match ring {
                Ok(ring) => self.rotate(&ring, &author, reply),
                Err(reason) => reply.refuse(reason),
            },
            ConfigCall::Status
            | ConfigCall::Get { .. }
            | ConfigCall::List { .. }
            | ConfigCall::Unset { .. }
            | ConfigCall::History { .. }
            | ConfigCall::Diff
            | ConfigCall::Conflicts
            | ConfigCall::Resolve { .. }
            | ConfigCall::Vectors
            | ConfigCall::Audit { .. }
            | ConfigCall::Watch { .. } => self.on_call(call, reply),
        }
    }

    /// Whether `value` opens under `stored`; a node that is to have no keys cannot tell, and takes it as it is.
    fn opens(
        &self,
        ring: &Result<KeyRing, String>,
        stored: &str,
        value: &Value,
    ) -> Result<(), String> {
        // What is not sealed is refused by the rules of keys.
        let Some(sealed) = SealedValue::of(value) else { return Ok(()) };
        match ring {
            Ok(ring) => ring.open(stored, &sealed).map(|_| ()).map_err(|error| error.to_string()),
            Err(_) if !self.arguments.secrets.has_keys() => Ok(()),
            Err(reason) => Err(reason.clone()),
        }
    }

    fn kept(&self) -> Vec<Kept> {
        let of_secrets = self.sync.entries().filter(|(key, _)| is_secret(ConfigScope::of(key).1));
        let kept = of_secrets.filter_map(|(key, entry)| {
            let reading = entry.read()?;
            Some(Kept {
                stored: key.to_owned(),
                sealed: SealedValue::of(&reading.value),
                is_contested: entry.siblings.len() > 1,
            })
        });
        kept.collect()
    }

    fn secrets(&self, ring: Result<KeyRing, String>) -> Json {
        let rows = self.kept().into_iter().map(|Kept { stored, sealed, .. }| {
            let (whose, path) = ConfigScope::of(&stored);
            let opened = match (&ring, &sealed) {
                (Ok(ring), Some(sealed)) => {
                    ring.open(&stored, sealed).map(|_| ()).map_err(|error| error.to_string())
                }
                (Err(reason), _) => Err(reason.clone()),
                (Ok(_), None) => Err("it is not sealed; set it again".into()),
            };
            json!({
                "key": path, "scope": scope(&whose),
                "key_id": sealed.map(|sealed| sealed.key_id),
                "opens": opened.is_ok(), "problem": opened.err(),
            })
        });
        let rows: Json = rows.collect();
        let keys: Vec<&str> = ring.iter().flat_map(KeyRing::ids).collect();
        json!({
            "node": self.arguments.node, "keys": keys, "problem": ring.as_ref().err(),
            "secrets": rows,
        })
    }

    /// Seals with the first key what is sealed with another; answers once that is on the disk.
    fn rotate(&mut self, ring: &KeyRing, author: &str, reply: Reply) {
        let (mut resealed, mut already, mut left, mut last) = (0_u64, 0_u64, Vec::new(), None);
        for Kept { stored, sealed, is_contested } in self.kept() {
            let done = match sealed {
                None => Err("it is not sealed; set it again".to_owned()),
                Some(_) if is_contested => Err(
                    "several writes stand, of which one has to count first; see `tickwright ctl config \
                     conflicts` and `resolve`"
                        .to_owned(),
                ),
                Some(sealed) if sealed.key_id == ring.first() => {
                    already += 1;
                    continue;
                }
                Some(sealed) => ring
                    .open(&stored, &sealed)
                    .and_then(|secret| ring.seal(&stored, &secret))
                    .map_err(|error| error.to_string()),
            };
            let written = done.and_then(|sealed| {
                let value = Value::Text(sealed.to_string());
                let number = self.rewrite(&stored, value, author);
                number.ok_or_else(|| "it has changed meanwhile; rotate again".to_owned())
            });
            match written {
                Ok(number) => {
                    resealed += 1;
                    last = Some(number);
                }
                Err(reason) => {
                    let (whose, path) = ConfigScope::of(&stored);
                    left.push(json!({ "key": path, "scope": scope(&whose), "reason": reason }));
                }
            }
        }
        let answer = json!({
            "key_id": ring.first(), "resealed": resealed, "already": already, "left": left,
        });
        self.answer_after(last, reply, answer);
    }
}
