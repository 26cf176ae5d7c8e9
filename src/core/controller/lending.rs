//! A reconcile that only waits lends its worker to other keys, and waits for a free one
//! before it goes on. The key still counts as running, so it is not reconciled twice.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};

use crate::core::queue::{Key, Queue};

/// How many reconciles of a controller may lend their worker at once. Each keeps a lease
/// that is renewed; further ones keep their worker.
const MAX_LENT: usize = 128;

/// What a reconcile asks of its controller.
#[derive(Debug)]
pub(super) enum WorkerRequest {
    /// Others may use its worker.
    Lend(Key),
    /// It needs a worker again; the answer is sent when it has one.
    Return(Key, oneshot::Sender<()>),
}

/// The worker of one reconcile, as the reconcile sees it.
#[derive(Clone, Debug)]
pub(super) struct LendableWorker {
    key: Key,
    requests: UnboundedSender<WorkerRequest>,
    places: Arc<Semaphore>,
}

impl LendableWorker {
    /// Lends the worker while `waiting` runs. It is returned when `stopped` ends, or when a
    /// worker is free.
    pub(super) async fn lend<T>(
        &self,
        waiting: impl Future<Output = T>,
        stopped: impl Future<Output = ()>,
    ) -> T {
        let Ok(_place) = self.places.try_acquire() else {
            return waiting.await;
        };
        // The controller exists for as long as its reconciles.
        let _sent = self.requests.send(WorkerRequest::Lend(self.key.clone()));
        let done = waiting.await;
        let (answer, free) = oneshot::channel();
        let request = WorkerRequest::Return(self.key.clone(), answer);
        let _sent = self.requests.send(request);
        tokio::select! {
            _answered = free => {}
            () = stopped => {}
        }
        done
    }
}

/// The lent workers, as the controller sees them.
pub(super) struct LentWorkers {
    requests: UnboundedReceiver<WorkerRequest>,
    sender: UnboundedSender<WorkerRequest>,
    places: Arc<Semaphore>,
    /// The reconciles that wait for a worker, in the order of their requests.
    returning: VecDeque<(Key, oneshot::Sender<()>)>,
}

impl Default for LentWorkers {
    fn default() -> Self {
        let (sender, requests) = unbounded_channel();
        Self {
            requests,
            sender,
            places: Arc::new(Semaphore::new(MAX_LENT)),
            returning: VecDeque::new(),
        }
    }
}

impl LentWorkers {
    /// The worker of a reconcile that starts.
    pub(super) fn worker(&self, key: &Key) -> LendableWorker {
        LendableWorker {
            key: key.clone(),
            requests: self.sender.clone(),
            places: self.places.clone(),
        }
    }

    /// Waits for the next request. Cancel-safe.
    pub(super) async fn request(&mut self) -> WorkerRequest {
        match self.requests.recv().await {
            Some(request) => request,
            // Not reached: this has a sender.
            None => std::future::pending().await,
        }
    }

    pub(super) fn handle(&mut self, request: WorkerRequest, queue: &mut Queue) {
        match request {
            WorkerRequest::Lend(key) => queue.lend_worker(&key),
            WorkerRequest::Return(key, answer) => self.returning.push_back((key, answer)),
        }
        self.return_free(queue);
    }

    /// Gives free workers to the reconciles that wait for one, before new keys start.
    pub(super) fn return_free(&mut self, queue: &mut Queue) {
        while queue.has_free_worker()
            && let Some((key, answer)) = self.returning.pop_front()
        {
            queue.return_worker(&key);
            let _receiver_may_be_gone = answer.send(());
        }
    }
}
