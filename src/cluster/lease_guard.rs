//! Holds the lease on a cluster during a run, and renews it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};
use futures_util::future::try_join_all;
use tokio::time::{Duration, Instant, timeout};

use crate::error::Failure;
use crate::events::Context;
use crate::host::lease::{Answer, DURATION, Lease, Request, has_ended, new_holder};
use crate::host::{Claim, Fence, Host};

/// A lease that nobody renewed for so long is over, whatever its time says: a run that cannot renew its lease ends before that.
const WATCH: Duration = DURATION.saturating_add(Duration::from_secs(2));
/// How often to try again while another run holds the lease.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// When a lease is renewed, and how long before its end by the host's clock the run counts it as over.
const TERM: Term =
    Term { duration: DURATION, margin: Duration::from_secs(5), renewal: Duration::from_secs(15), retry: Duration::from_secs(2) };

/// The lease on a cluster, held by this run.
pub struct LeaseGuard {
    holder: String,
    owner: String,
    number: AtomicU64,
    /// When the last request was sent that was granted.
    granted: Mutex<Instant>,
}

impl LeaseGuard {
    /// Acquires the lease on a master. The lease of a run on this machine that has ended is taken over at once. The lease of any other
    /// run expires unless it is renewed: this waits up to a minute for it.
    ///
    /// # Errors
    /// Fails if another run is active; the error names its owner.
    pub async fn acquire(host: &Host, owner: &str, force: bool, ctx: &Context) -> Result<LeaseGuard> {
        let guard =
            LeaseGuard { holder: new_holder(), owner: owner.to_owned(), number: AtomicU64::new(0), granted: Mutex::new(Instant::now()) };
        let claimed = host.claim().map_or(0, |claim| claim.number);
        guard.wait(host, &Request::Acquire { force, above: claimed }, ctx).await?;
        Ok(guard)
    }

    async fn wait(&self, host: &Host, acquire: &Request, ctx: &Context) -> Result<()> {
        let mut first: Option<(Lease, Instant)> = None;
        loop {
            let answer = ctx.or_cancelled(self.request(host, acquire)).await?;
            let Answer::Refused { lease: other, .. } = &answer else { return Ok(()) };
            if has_ended(&other.holder) {
                ctx.note(format!("taking over the lease of {}, which has ended", other.owner));
                return self.request(host, &Request::TakeOver { from: other.holder.clone() }).await?.held().map(drop);
            }
            match &first {
                Some((first, seen)) => match Holder::of(first, other, seen.elapsed()) {
                    Holder::Active => return answer.held().map(drop),
                    Holder::Unknown => {}
                    Holder::Gone => {
                        ctx.note(format!("taking over the lease of {}, which was not renewed for {} s", other.owner, WATCH.as_secs()));
                        return self.request(host, &Request::TakeOver { from: other.holder.clone() }).await?.held().map(drop);
                    }
                },
                None => {
                    let seconds = DURATION.as_secs();
                    ctx.warn(format!(
                        "the cluster is locked by {}: waiting up to {seconds} s to see whether that run is active",
                        other.owner
                    ));
                    first = Some((other.clone(), Instant::now()));
                }
            }
            ctx.or_cancelled(async {
                tokio::time::sleep(RETRY_INTERVAL).await;
                Ok(())
            })
            .await?;
        }
    }

    /// Lets the agents of `hosts` refuse the changes of older runs, and of this one as soon as a newer one has changed them. `keeper` is
    /// the host that keeps the lease.
    ///
    /// # Errors
    /// Fails if a host has seen a higher number and the lease cannot get one that exceeds it.
    pub async fn fence(&self, keeper: &Host, cluster: &str, hosts: impl IntoIterator<Item = &Host>) -> Result<()> {
        let hosts: Vec<&Host> = hosts.into_iter().collect();
        let of_cluster = hosts.iter().filter_map(|host| host.claim()).filter(|claim| claim.cluster == cluster);
        let seen = of_cluster.map(|claim| claim.number).max().unwrap_or(0);
        if seen >= self.number() {
            // the host that kept earlier leases is gone, and its clock was ahead
            self.request(keeper, &Request::Acquire { force: false, above: seen }).await?.held()?;
        }
        for host in hosts {
            host.set_fence(self.token(cluster));
        }
        Ok(())
    }

    /// Verifies, under the lease, that no other run has changed `hosts` since they were connected: what was planned is still to be done.
    ///
    /// # Errors
    /// Fails if one has; of kind `Preflight` if a host belongs to another cluster by now.
    pub async fn verify_unchanged(&self, cluster: &str, hosts: impl IntoIterator<Item = &Host>) -> Result<()> {
        let verify = async |host: &Host| {
            let (before, now) = (host.claim(), host.current_claim().await?);
            let named = |error: anyhow::Error| Failure::over(&error, format!("{} ({}): {error:#}", host.name(), host.address()));
            Claim::admit(now.as_ref(), Some(&self.token(cluster))).map_err(named)?;
            if now.as_ref() != before {
                let message = format!("{} ({}): another run has changed this host since it was looked at", host.name(), host.address());
                return Err(Failure::failed(message).hint("run the same command again").into());
            }
            anyhow::Ok(())
        };
        try_join_all(hosts.into_iter().map(verify)).await.map(drop)
    }

    /// What a host that is connected later is given ([`Host::set_fence`]).
    pub fn token(&self, cluster: &str) -> Fence {
        Fence { cluster: cluster.to_owned(), number: Some(self.number()) }
    }

    /// The number of the lease, higher than that of every earlier one.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Runs `work` and renews the lease meanwhile. Releases the lease in the end, even if `work` fails.
    ///
    /// # Errors
    /// Fails as `work` does, or if another run takes the lease or its term ends without a renewal: then `work` is stopped. A renewal that
    /// fails is tried again until then.
    pub async fn hold_during<T>(&self, host: &Host, ctx: &Context, work: impl Future<Output = Result<T>>) -> Result<T> {
        let granted = *self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let renew = async || match self.request(host, &Request::Renew).await {
            Ok(Answer::Held(_)) => Renewal::Renewed,
            Ok(Answer::Refused { lease, .. }) => Renewal::Lost(lease.owner),
            Ok(Answer::Free) => Renewal::Missed(anyhow!("{}: the lease was removed", host.name())),
            Err(error) => Renewal::Missed(error),
        };
        let warn = |error: &anyhow::Error| ctx.warn(format!("the lease on the cluster was not renewed, trying again: {error:#}"));
        let lost = TERM.renew_until_lost(granted, renew, warn);
        let result = tokio::select! {
            result = work => result,
            error = lost => Err(error),
        };
        // otherwise it expires
        timeout(TERM.renewal, self.request(host, &Request::Release)).await.ok();
        result
    }

    async fn request(&self, host: &Host, request: &Request) -> Result<Answer> {
        let sent = Instant::now();
        let answer = host.lease(&self.holder, &self.owner, request).await?;
        if let Answer::Held(lease) = &answer {
            self.number.store(lease.number, Ordering::Relaxed);
            *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = sent;
        }
        Ok(answer)
    }
}

/// What became of a renewal.
enum Renewal {
    Renewed,
    /// It failed, and may succeed the next time.
    Missed(anyhow::Error),
    /// Another run holds the lease, or has since.
    Lost(String),
}

/// The term of a lease by the monotonic clock of this machine, counted from before its request was sent.
#[derive(Debug, Clone, Copy)]
struct Term {
    duration: Duration,
    /// The run ends so long before the term does: what it has sent shall have arrived.
    margin: Duration,
    /// The pause between renewals.
    renewal: Duration,
    /// The pause after one that failed.
    retry: Duration,
}

impl Term {
    /// Renews a lease that was granted at `granted`, and returns the error when it is lost or its term is over.
    async fn renew_until_lost(
        &self,
        mut granted: Instant,
        renew: impl AsyncFn() -> Renewal,
        warn: impl Fn(&anyhow::Error),
    ) -> anyhow::Error {
        let mut pause = self.renewal;
        let mut missed: Option<anyhow::Error> = None;
        loop {
            let end = granted + self.duration.saturating_sub(self.margin);
            tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
            let sent = Instant::now();
            if sent >= end {
                return self.is_over(missed);
            }
            let patience = self.renewal.min(end - sent);
            let no_answer = || Renewal::Missed(anyhow!("no answer for {} s", patience.as_secs()));
            match timeout(patience, renew()).await.unwrap_or_else(|_| no_answer()) {
                Renewal::Renewed => (granted, pause, missed) = (sent, self.renewal, None),
                Renewal::Lost(owner) => {
                    return Failure::failed(format!("the lease on the cluster was taken by {owner}: this run has ended"))
                        .hint("wait until that run has ended, then run the same command again")
                        .into();
                }
                Renewal::Missed(error) => {
                    if missed.is_none() {
                        warn(&error);
                    }
                    (pause, missed) = (self.retry, Some(error));
                }
            }
        }
    }

    fn is_over(&self, why: Option<anyhow::Error>) -> anyhow::Error {
        let why = why.map(|error| format!(": {error:#}")).unwrap_or_default();
        let seconds = self.duration.saturating_sub(self.margin).as_secs();
        Failure::network(format!("the lease on the cluster is over: it was not renewed for {seconds} s{why}"))
            .hint("run the same command again to resume")
            .into()
    }
}

/// What is known of the run that holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// It has renewed the lease, or another run has acquired it.
    Active,
    Unknown,
    /// It has let the lease end.
    Gone,
}

impl Holder {
    /// Compares a lease with what it was `watched` ago. Its times do not matter: the clock of the host may have been set.
    fn of(earlier: &Lease, now: &Lease, watched: Duration) -> Holder {
        if now.holder != earlier.holder || now.until != earlier.until {
            Holder::Active
        } else if watched >= WATCH {
            Holder::Gone
        } else {
            Holder::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_run_is_active_if_its_lease_was_renewed_or_acquired_by_another() {
        let lease = |holder: &str, until| Lease { holder: holder.into(), until, ..Lease::default() };
        let (first, distant) = (lease("a", 60), lease("a", u64::MAX));
        let seconds = Duration::from_secs;
        let cases = [
            ("nothing changed", &first, lease("a", 60), seconds(59), Holder::Unknown),
            ("nothing changed within its term", &first, lease("a", 60), seconds(63), Holder::Gone),
            ("whatever its time says", &distant, lease("a", u64::MAX), seconds(63), Holder::Gone),
            ("it was renewed", &first, lease("a", 75), seconds(63), Holder::Active),
            ("it was renewed after the clock was set back", &distant, lease("a", 75), seconds(63), Holder::Active),
            ("another run acquired it", &first, lease("b", 60), seconds(1), Holder::Active),
        ];
        for (name, earlier, now, watched, expected) in cases {
            assert_eq!(Holder::of(earlier, &now, watched), expected, "{name}");
        }
    }

    /// A term with milliseconds for seconds: 600 ms, of which 50 are margin; renewed each 150 ms.
    fn short() -> Term {
        let ms = Duration::from_millis;
        Term { duration: ms(600), margin: ms(50), renewal: ms(150), retry: ms(20) }
    }

    #[tokio::test]
    async fn a_missed_renewal_is_tried_again_and_only_the_end_of_the_term_ends_a_run() {
        #[derive(Clone, Copy, Debug)]
        enum Keeper {
            Answers,
            Fails,
            Hangs,
        }
        use Keeper::*;
        // what the host does at each renewal, the last one for ever; when the run ends at the earliest and the latest
        type Case<'a> = (&'a str, &'a [Keeper], Option<(u64, u64)>);
        let cases: [Case; 5] = [
            ("all are renewed", &[Answers], None),
            ("one is missed", &[Answers, Fails, Answers], None),
            ("many are missed, within the term", &[Fails, Fails, Fails, Fails, Fails, Answers], None),
            ("none is renewed", &[Fails], Some((540, 900))),
            ("no answer after the first", &[Answers, Hangs], Some((690, 1100))),
        ];
        for (name, script, ends) in cases {
            let calls = AtomicUsize::new(0);
            let renew = async || match script[calls.fetch_add(1, Ordering::SeqCst).min(script.len() - 1)] {
                Answers => Renewal::Renewed,
                Fails => Renewal::Missed(anyhow!("no route")),
                Hangs => std::future::pending().await,
            };
            let began = Instant::now();
            let lost = timeout(Duration::from_millis(1500), short().renew_until_lost(began, renew, |_| ())).await.ok();
            let after = u64::try_from(began.elapsed().as_millis()).unwrap();
            match (lost, ends) {
                (None, None) => {}
                (Some(error), Some((earliest, latest))) => {
                    assert!((earliest..latest).contains(&after), "{name}: after {after} ms");
                    assert!(error.to_string().contains("is over"), "{name}: {error}");
                }
                (lost, _) => panic!("{name}: {lost:?} after {after} ms"),
            }
        }
    }

    #[tokio::test]
    async fn a_lease_that_another_run_has_ends_this_one_at_once() {
        let term = short();
        let lost = term.renew_until_lost(Instant::now(), async || Renewal::Lost("bob@desk".into()), |_| ());
        let error = timeout(Duration::from_millis(400), lost).await.unwrap();
        assert!(error.to_string().contains("bob@desk"), "{error}");
    }
}
