//! How much one address may ask for in a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::WEIGHT_MAX;

/// Addresses that are counted at once; beyond them the count begins anew.
const ADDRESSES_MAX: usize = 1_024;

/// Milliseconds that a count lasts.
const MINUTE: u64 = 60_000;

/// How long somebody is shut out who goes on after having been told to wait, milliseconds.
const BAN: u64 = 120_000;

/// Requests that are told to wait before that.
const WARNINGS: u64 = 1_000;

/// Counts requests by address.
#[derive(Clone, Debug, Default)]
pub struct RateLimit {
    /// The count, when it began, and until when the address is shut out.
    addresses: BTreeMap<IpAddr, (u64, u64, u64)>,
}

impl RateLimit {
    /// Counts a request; the status and the seconds to wait, if it is one too many. `now` are
    /// milliseconds that go on evenly.
    ///
    /// # Errors
    ///
    /// 429, or 418 for who does not wait.
    pub fn take(&mut self, address: IpAddr, now: u64) -> Result<(), (u16, u64)> {
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&address) {
            self.addresses.clear();
        }
        let (count, begun, banned) = self.addresses.entry(address).or_insert((0, now, 0));
        if now < *banned {
            return Err((418, (*banned - now).div_ceil(1_000)));
        }
        if now.saturating_sub(*begun) >= MINUTE {
            (*count, *begun) = (0, now);
        }
        *count += 1;
        if *count <= WEIGHT_MAX {
            return Ok(());
        }
        if *count > WEIGHT_MAX + WARNINGS {
            *banned = now + BAN;
            return Err((418, BAN / 1_000));
        }
        Err((429, (*begun + MINUTE - now).div_ceil(1_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_waits_for_the_minute_and_who_does_not_wait_is_shut_out() {
        let mut limit = RateLimit::default();
        let (one, two) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for _ in 0..WEIGHT_MAX {
            assert_eq!(limit.take(one, 5), Ok(()));
        }
        assert_eq!(limit.take(one, 1_005), Err((429, 59)));
        assert_eq!(limit.take(two, 1_005), Ok(()));
        assert_eq!(limit.take(one, 60_005), Ok(()), "another minute");
        for _ in 0..WEIGHT_MAX + WARNINGS - 1 {
            let _ = limit.take(one, 60_005);
        }
        assert_eq!(limit.take(one, 60_005), Err((418, 120)));
        assert_eq!(limit.take(one, 180_004), Err((418, 1)));
        assert_eq!(limit.take(one, 180_005), Ok(()));
    }
}
