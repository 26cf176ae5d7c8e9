//! How full the server's notification queue is, and who blocks it.

use std::fmt;

use jiff::Timestamp;

use super::{Store, queries};
use crate::core::database::{DatabaseError, column};

/// From this share on a person should know: normally the queue is nearly empty.
const FILLING: f64 = 0.3;

/// The notification queue of the server, which all its databases share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotificationQueue {
    /// The used share, 0 to 1.
    pub usage: f64,
    /// Whether triggers send no notifications, because commits could fail.
    pub nearly_full: bool,
    /// The session that most likely blocks it, if a part stays unread.
    pub blocker: Option<QueueBlocker>,
}

/// A session that most likely does not read its notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueBlocker {
    /// The process of the server.
    pub pid: i32,
    /// Its application name.
    pub application: String,
    /// Its role.
    pub user: String,
    /// Since when it is in its transaction, or its client does not read.
    pub since: Timestamp,
}

impl Store {
    /// Reads the state of the notification queue.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn notification_queue(&self) -> Result<NotificationQueue, DatabaseError> {
        let found = self
            .each(
                "read the notification queue",
                &queries::READ_NOTIFICATION_QUEUE,
                &[],
                |row| {
                    let pid: Option<i32> = column(row, "pid")?;
                    let application: Option<String> = column(row, "application")?;
                    let user: Option<String> = column(row, "user")?;
                    let since: Option<Timestamp> = column(row, "since")?;
                    let blocker = pid.zip(since).map(|(pid, since)| QueueBlocker {
                        pid,
                        application: application.unwrap_or_default(),
                        user: user.unwrap_or_default(),
                        since,
                    });
                    Ok(NotificationQueue {
                        usage: column(row, "usage")?,
                        nearly_full: column(row, "nearly_full")?,
                        blocker,
                    })
                },
            )
            .await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }
}

impl NotificationQueue {
    /// What a person should know of it, if anything.
    pub fn notice(&self) -> Option<String> {
        (self.usage >= FILLING).then(|| {
            let effect = match self.nearly_full {
                true => ", so none are sent and changes wait for the next search",
                false => "",
            };
            let blocker = match &self.blocker {
                Some(blocker) => format!(
                    "most likely blocked by {blocker}; next: end that session or its transaction"
                ),
                None => "this role sees no session that blocks it; next: \
                         see docs/runbooks/notificationqueuefilling.md"
                    .to_owned(),
            };
            let percent = (self.usage * 100.0).floor();
            format!("the server's notification queue is {percent} % full{effect}; {blocker}")
        })
    }
}

impl fmt::Display for QueueBlocker {
    /// `pid 7 (application psql, user ada, since T)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (application {}, ", self.pid, self.application)?;
        write!(f, "user {}, since {:.0})", self.user, self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_queue_is_explained_with_its_blocker() {
        let mut queue = NotificationQueue {
            usage: 0.29,
            ..NotificationQueue::default()
        };
        assert_eq!(queue.notice(), None);
        queue.usage = 0.958;
        queue.nearly_full = true;
        let notice = queue.notice().unwrap();
        assert!(
            notice.contains("is 95 % full, so none are sent"),
            "{notice}"
        );
        assert!(notice.contains("sees no session"), "{notice}");
        queue.blocker = Some(QueueBlocker {
            pid: 7,
            application: "psql".into(),
            user: "ada".into(),
            since: Timestamp::UNIX_EPOCH,
        });
        let notice = queue.notice().unwrap();
        let named = "blocked by pid 7 (application psql, user ada, since 1970-01-01T00:00:00Z)";
        assert!(notice.contains(named), "{notice}");
    }
}
