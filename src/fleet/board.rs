//! The leases in the cluster: one look renews what this member has and shows who else does what.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::accept::survives_at;
use super::error::{EngineError, Kind};
use super::lease::{Duty, MemberId, MemberInfo, Seen};
use super::link::{Connected, Line, Link};
use super::overview::Gone;
use super::schema;

/// How the fleet is divided.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The leases of this member that were renewed, with their epochs.
    pub(crate) renewed: BTreeMap<Duty, i64>,
    /// Every lease, as it was before this look.
    pub(crate) leases: BTreeMap<Duty, Seen>,
    /// The members that are alive, this one too.
    pub(crate) members: BTreeMap<MemberId, MemberInfo>,
}

/// What the name of a member's row begins with.
const MEMBER: &str = "member:";

impl Link {
    /// Renews this member's leases and looks at all of them.
    ///
    /// # Errors
    /// The cluster gave no answer, what it acknowledges would not survive, or its schema does not
    /// fit this program: then nothing was renewed.
    pub(crate) async fn renew(&self, info: &MemberInfo) -> Result<Board, EngineError> {
        let (ns, member) = (self.config().namespace.to_string(), self.member().to_string());
        let (name, info) = (format!("{MEMBER}{member}"), serde_json::to_string(info).unwrap_or_default());
        let (lease, durability) = (self.lease_ms(), self.config().durability);
        self.transact(Line::Lease, self.within(), move |connected| async move {
            survives_at(&connected, durability).await?;
            match schema::standing(&connected).await? {
                schema::Standing::Fits { .. } => {}
                standing => return Err(schema::misfit(standing)),
            }
            let Present { members, leases, .. } = seen(&connected, &ns).await?;
            let mut board = Board { members, leases, ..Board::default() };
            let of_ns = [(&ns as _, Type::TEXT)];
            // In the order in which writes take them, so that none waits for the other.
            let renew = "UPDATE spec_notify.lease AS l SET until = clock_timestamp() + $3 * interval '1 \
                millisecond' \
                         FROM (SELECT name FROM spec_notify.lease WHERE ns = $1 AND holder = $2 \
                             AND until > clock_timestamp() ORDER BY name FOR NO KEY UPDATE) AS mine \
                         WHERE l.ns = $1 AND l.name = mine.name RETURNING l.name, l.epoch";
            let [of] = of_ns;
            let parameters = [of.clone(), (&member as _, Type::TEXT), (&lease as _, Type::INT8)];
            for row in connected.client.query_typed(renew, &parameters).await? {
                let name: String = row.try_get(0)?;
                if let Some(duty) = Duty::of(&name) {
                    board.renewed.insert(duty, row.try_get(1)?);
                }
            }
            let present = "INSERT INTO spec_notify.lease AS l (ns, name, holder, until, info) \
                           VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', $5) \
                           ON CONFLICT (ns, name) DO UPDATE SET until = excluded.until, info = excluded.info";
            let parameters = [
                of,
                (&name as _, Type::TEXT),
                (&member as _, Type::TEXT),
                (&lease as _, Type::INT8),
                (&info as _, Type::TEXT),
            ];
            connected.client.query_typed(present, &parameters).await?;
            board.members.insert(MemberId::new(&member), serde_json::from_str(&info).unwrap_or_default());
            Ok(board)
        })
        .await
    }

    /// Takes leases that nobody has. Answers with the epochs of those that it got.
    ///
    /// # Errors
    /// The cluster gave no answer: it may have some all the same.
    pub(crate) async fn acquire(&self, duties: &[Duty]) -> Result<BTreeMap<Duty, i64>, EngineError> {
        let (ns, member) = (self.config().namespace.to_string(), self.member().to_string());
        let (names, lease) = (duties.iter().map(Duty::to_string).collect::<Vec<_>>(), self.lease_ms());
        self.transact(Line::Lease, self.within(), move |connected| async move {
            let sql = "INSERT INTO spec_notify.lease AS l (ns, name, holder, until) \
                       SELECT $1, new.name, $2, clock_timestamp() + $4 * interval '1 millisecond' \
                       FROM unnest($3::text[]) AS new(name) ORDER BY new.name \
                       ON CONFLICT (ns, name) DO UPDATE SET holder = excluded.holder, epoch = l.epoch + 1, \
                           until = excluded.until WHERE l.until <= clock_timestamp() RETURNING l.name, \
                           l.epoch";
            let parameters = [
                (&ns as _, Type::TEXT),
                (&member as _, Type::TEXT),
                (&names as _, Type::TEXT_ARRAY),
                (&lease as _, Type::INT8),
            ];
            let mut got = BTreeMap::new();
            for row in connected.client.query_typed(sql, &parameters).await? {
                let name: String = row.try_get(0)?;
                got.extend(Duty::of(&name).zip(row.try_get(1).ok()));
            }
            Ok(got)
        })
        .await
    }

    /// Ends the sessions of those whose leases ran out and who still hold them by a transaction: a
    /// member that froze, or whose machine is gone, in the middle of a message.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn end_sessions(&self, duties: &[Duty]) -> Result<(), EngineError> {
        let ns = self.config().namespace.to_string();
        let names = duties.iter().map(Duty::to_string).collect::<Vec<_>>();
        self.ask(Line::Read, self.within(), move |connected| async move {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE usename = current_user AND xact_start IS NOT NULL AND application_name IN ( \
                           SELECT 'spec-notify ' || holder FROM spec_notify.lease \
                           WHERE ns = $1 AND name = ANY($2) AND until <= clock_timestamp())";
            let parameters = [(&ns as _, Type::TEXT), (&names as _, Type::TEXT_ARRAY)];
            connected.client.query_typed(sql, &parameters).await.map(drop)
        })
        .await
    }

    /// Gives one lease up, or all and the membership with them: others may take them at once.
    ///
    /// # Errors
    /// The cluster gave no answer: they run out by themselves.
    pub(crate) async fn release(&self, duty: Option<(&Duty, i64)>) -> Result<(), EngineError> {
        let (ns, member) = (self.config().namespace.to_string(), self.member().to_string());
        let (name, epoch) = duty.map_or((String::new(), 0), |(duty, epoch)| (duty.to_string(), epoch));
        self.transact(Line::Lease, self.within(), move |connected| async move {
            let sql = "UPDATE spec_notify.lease SET until = '-infinity' \
                       WHERE ns = $1 AND holder = $2 AND ($3 = '' OR (name = $3 AND epoch = $4))";
            let parameters = [
                (&ns as _, Type::TEXT),
                (&member as _, Type::TEXT),
                (&name as _, Type::TEXT),
                (&epoch as _, Type::INT8),
            ];
            connected.client.query_typed(sql, &parameters).await.map(drop).map_err(EngineError::from)
        })
        .await
    }

    /// How many of these leases nobody has: cheap enough to be asked often.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn free(&self, duties: Vec<Duty>) -> Result<i64, EngineError> {
        let ns = self.config().namespace.to_string();
        let names: Vec<String> = duties.iter().map(Duty::to_string).collect();
        self.ask(Line::Read, self.within(), move |connected| async move {
            let sql = "SELECT count(*) FROM spec_notify.lease \
                       WHERE ns = $1 AND name = ANY($2) AND until <= clock_timestamp()";
            let parameters = [(&ns as _, Type::TEXT), (&names as _, Type::TEXT_ARRAY)];
            let rows = connected.client.query_typed(sql, &parameters).await?;
            rows.first().map_or(Ok(0), |row| row.try_get(0))
        })
        .await
    }

    fn lease_ms(&self) -> i64 {
        i64::try_from(self.config().lease.as_millis()).unwrap_or(i64::MAX)
    }

    /// A look that takes half a lease is of no use.
    fn within(&self) -> Duration {
        self.config().lease / 2
    }
}

/// Who is there, and who does what.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) members: BTreeMap<MemberId, MemberInfo>,
    /// Those that went silent.
    pub(super) gone: Vec<Gone>,
    pub(super) leases: BTreeMap<Duty, Seen>,
}

/// The members, and every lease.
pub(super) async fn seen(connected: &Connected, ns: &String) -> Result<Present, tokio_postgres::Error> {
    let mut present = Present::default();
    let sql = "SELECT name, holder, until > clock_timestamp(), info, \
               CASE WHEN isfinite(until) THEN extract(epoch from clock_timestamp() - until)::int8 END \
               FROM spec_notify.lease WHERE ns = $1";
    for row in connected.client.query_typed(sql, &[(ns, Type::TEXT)]).await? {
        let (name, holder): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (is_live, info): (bool, String) = (row.try_get(2)?, row.try_get(3)?);
        let holder = MemberId::new(&holder);
        if let Some(duty) = Duty::of(&name) {
            present.leases.insert(duty, Seen { holder, is_live });
        } else if name.starts_with(MEMBER)
            && let Ok(info) = serde_json::from_str::<MemberInfo>(&info)
        {
            // One that ended in order has given its row up.
            let silent_s: Option<i64> = row.try_get(4)?;
            match silent_s.and_then(|silent| u64::try_from(silent).ok()) {
                _ if is_live => drop(present.members.insert(holder, info)),
                Some(since_s) => present.gone.push(Gone { info, since_s }),
                None => {}
            }
        }
    }
    Ok(present)
}

/// Whether somebody holds a lock on what was asked for.
pub(crate) fn is_locked(error: &EngineError) -> bool {
    error.kind == Kind::Locked
}

/// Whether the role of this machine may not do what was asked for.
pub(crate) fn is_denied(error: &EngineError) -> bool {
    error.kind == Kind::Denied
}

/// Whether there was no answer, so that what was asked for may have been done.
pub(crate) fn is_silent(error: &EngineError) -> bool {
    error.kind == Kind::Silent
}

/// An error that a person has to mend.
pub(crate) fn needs_a_person(error: &EngineError) -> bool {
    matches!(error.kind, Kind::Settings | Kind::Refused | Kind::Denied | Kind::NotDurable)
}
