//! Claims and fenced writes of single rows, for the tests of the schema.

use std::time::Duration;

use kindler::clusters::Cluster;
use kindler::clusters::plan::Status;
use kindler::core::database::DatabaseError;
use kindler::core::rows::{Claim, Lease, Leased, Written};
use kindler::store::{ClusterStatus, Store};

/// The operations of a worker on one row.
pub trait Claims {
    /// Claims one row.
    async fn claim(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Claim<Cluster>, DatabaseError>;

    /// Writes a status under the fence.
    async fn claim_if_there(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Claim<Cluster>>, DatabaseError>;

    async fn write_status(
        &self,
        row: &Leased<Cluster>,
        lease: &Lease,
        status: &Status,
    ) -> Result<Written<Cluster>, DatabaseError>;
}

impl Claims for Store {
    async fn claim(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Claim<Cluster>, DatabaseError> {
        let claim = self.claim_if_there(name, owner, ttl).await?;
        Ok(claim.expect("the row is there"))
    }

    async fn claim_if_there(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Claim<Cluster>>, DatabaseError> {
        let claims = self.claims();
        let mut found = claims
            .claim(&[name.into()], &owner.into(), ttl, ttl)
            .await?;
        Ok(found.pop().map(|(_, claim)| claim))
    }

    async fn write_status(
        &self,
        row: &Leased<Cluster>,
        lease: &Lease,
        status: &Status,
    ) -> Result<Written<Cluster>, DatabaseError> {
        let status = ClusterStatus::new(status, &row.object.spec_hash);
        self.claims().write(lease, row, &status, &[]).await
    }
}
