use super::*;
use crate::run::test_data::{Hooked, Moment};
use futures::FutureExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(400);

/// Lets others run between two looks at a state.
const LOOK: Duration = Duration::from_millis(2);

async fn take_at_last(store: &Store, holder: &str, duration: Duration) -> Lease {
    loop {
        match Lease::take(store, "hourly", holder, duration).await {
            Ok(lease) => return lease,
            Err(Error::Leased { .. }) => tokio::time::sleep(LOOK).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn exclusive(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    std::fs::write(&counter, "0").unwrap();
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let (store, counter, inside) = (store.clone(), counter.clone(), Arc::clone(&inside));
        tasks.spawn(async move {
            for _ in 0..4 {
                let lease = take_at_last(&store, &format!("host {task}"), LONG).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lease");
                lease.check().await.unwrap();
                let count: u32 = std::fs::read_to_string(&counter).unwrap().parse().unwrap();
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
                std::fs::write(&counter, (count + 1).to_string()).unwrap();
                inside.fetch_sub(1, Ordering::SeqCst);
                lease.release().await.unwrap();
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "64");
    // 64 leases are 128 generations.
    let generations = store.lease_generations("hourly").await.unwrap();
    assert!(generations.len() <= 18, "{generations:?}");
    assert!(generations.last() >= Some(&128), "{generations:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_16_holds_the_lease_in_memory() {
    exclusive(Store::in_memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_16_holds_the_lease_on_a_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    exclusive(Store::open(url.as_str(), &Default::default()).unwrap()).await;
}

#[tokio::test]
async fn a_lease_is_of_its_holder_until_it_is_released() {
    let store = Store::in_memory();
    let lease = Lease::take(&store, "hourly", "a 1", LONG).await.unwrap();
    let error = Lease::take(&store, "hourly", "b 2", LONG).await.unwrap_err();
    assert!(
        matches!(&error, Error::Leased { job, holder, .. } if job == "hourly" && holder == "a 1"),
        "{error}"
    );
    // A process is no exception for itself, and another job has another lease.
    Lease::take(&store, "hourly", "a 1", LONG).await.unwrap_err();
    Lease::take(&store, "daily", "b 2", LONG).await.unwrap();
    lease.check().await.unwrap();
    lease.release().await.unwrap();
    Lease::take(&store, "hourly", "b 2", LONG).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_is_gone_is_succeeded_after_the_duration() {
    let store = Store::in_memory();
    let begin = Instant::now();
    let lease = Lease::take(&store, "hourly", "a 1", SHORT).await.unwrap();
    drop(lease);
    let next = take_at_last(&store, "b 2", LONG).await;
    assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
    next.check().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_held_is_renewed() {
    let store = Store::in_memory();
    let begin = Instant::now();
    let lease = Lease::take(&store, "hourly", "a 1", Duration::from_secs(1)).await.unwrap();
    while lease.generation().await < 6 {
        lease.check().await.unwrap();
        Lease::take(&store, "hourly", "b 2", LONG).await.unwrap_err();
        tokio::time::sleep(LOOK).await;
    }
    // Without renewals it would have ended.
    assert!(begin.elapsed() > Duration::from_millis(1250), "{:?}", begin.elapsed());
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_lease_that_another_has_taken_is_lost() {
    let store = Store::in_memory();
    let lease = Lease::take(&store, "hourly", "a 1", SHORT).await.unwrap();
    let other = Generation::new("b 2", "x", Deadline::after(LONG));
    store.create_lease("hourly", 9, &other).await.unwrap();
    let error = lease.check().await.unwrap_err();
    assert!(matches!(&error, Error::LeaseLost { holder, .. } if holder == "b 2"), "{error}");
    let error = lease.lost().await;
    assert!(matches!(&error, Error::LeaseLost { holder, .. } if holder == "b 2"), "{error}");
    // To release it changes nothing for the other.
    lease.release().await.unwrap();
    assert_eq!(store.lease_generations("hourly").await.unwrap().last(), Some(&9));
}

#[tokio::test]
async fn the_renewal_finds_a_loss_by_itself() {
    let store = Store::in_memory();
    let lease = Lease::take(&store, "hourly", "a 1", SHORT).await.unwrap();
    // The next generation is taken, so that the renewal cannot create it.
    let other = Generation::new("b 2", "x", Deadline::after(LONG));
    store.create_lease("hourly", 2, &other).await.unwrap();
    let error = lease.lost().await;
    assert!(matches!(&error, Error::LeaseLost { holder, .. } if holder == "b 2"), "{error}");
}

#[tokio::test]
async fn a_job_that_is_dropped_ends_its_lease() {
    let store = Store::in_memory();
    let lease = Lease::take(&store, "hourly", "a 1", LONG).await.unwrap();
    store.drop_job("hourly").await.unwrap();
    assert!(matches!(lease.check().await.unwrap_err(), Error::LeaseLost { .. }));
}

#[tokio::test]
async fn a_store_that_is_silent_ends_the_lease_for_its_holder() {
    let hook = |n, moment| match (n, moment) {
        (2.., Moment::Before) => futures::future::pending().boxed(),
        _ => futures::future::ready(Ok(())).boxed(),
    };
    let objects = Hooked::new(Arc::new(InMemory::new()), Box::new(hook));
    let store = Store::with_objects("memory:///", Arc::new(objects));
    let begin = Instant::now();
    let lease = Lease::take(&store, "hourly", "a 1", SHORT).await.unwrap();
    let error = lease.lost().await;
    assert!(error.to_string().contains("was lost to nobody yet; it ended at"), "{error}");
    assert!(begin.elapsed() >= SHORT - Duration::from_millis(1), "{:?}", begin.elapsed());
    lease.check().await.unwrap_err();
}

#[tokio::test]
async fn a_response_that_was_lost_costs_no_lease() {
    let objects = Arc::new(InMemory::new());
    // The first renewal and the second are written, and their responses are lost.
    let failed = || object_store::Error::Generic { store: "test", source: "no response".into() };
    let hook = move |n, moment| {
        let fails = (2..4).contains(&n) && moment == Moment::After;
        futures::future::ready(if fails { Err(failed()) } else { Ok(()) }).boxed()
    };
    let store = Store::with_objects("memory:///", Arc::new(Hooked::new(objects, Box::new(hook))));
    let lease = Lease::take(&store, "hourly", "a 1", Duration::from_secs(1)).await.unwrap();
    while lease.generation().await < 5 {
        tokio::time::sleep(LOOK).await;
    }
    lease.check().await.unwrap();
    lease.release().await.unwrap();
    Lease::take(&store, "hourly", "b 2", LONG).await.unwrap();
}

#[tokio::test]
async fn who_creates_a_generation_that_was_deleted_holds_nothing() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    // Between the listing of a process and its creation, others took the lease 20 times and deleted the first four.
    let others = Store::with_objects("memory:///", Arc::clone(&objects));
    let hook = move |n, moment| {
        let others = others.clone();
        async move {
            if (n, moment) == (1, Moment::Before) {
                for generation in 5..=20 {
                    let other = Generation::new("b 2", "x", Deadline::after(LONG));
                    others.create_lease("hourly", generation, &other).await.unwrap();
                }
            }
            Ok(())
        }
        .boxed()
    };
    let store = Store::with_objects("memory:///", Arc::new(Hooked::new(objects, Box::new(hook))));
    let error = Lease::take(&store, "hourly", "a 1", LONG).await.unwrap_err();
    assert!(matches!(&error, Error::Leased { holder, .. } if holder == "b 2"), "{error}");
    assert!(store.lease_generations("hourly").await.unwrap().contains(&1), "it was created");
}
