//! Sessions that act on one another: signals, advisory locks, messages.

use futures::StreamExt;
use tokio_postgres::{AsyncMessage, Client, Notification};

use crate::running::{PATIENCE, Running, pid, state, truth, until};

#[tokio::test]
async fn one_session_cancels_the_statement_of_another() {
    let server = Running::start();
    let (victim, other) = (server.connect().await, server.connect().await);
    let number = pid(&victim).await;
    let sleep = tokio::spawn(async move { (victim.batch_execute("SELECT pg_sleep(1000)").await, victim) });
    until(&other, &format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = {number} AND state = 'active'")).await;
    assert!(truth(&other, &format!("SELECT pg_cancel_backend({number})")).await);
    let (ended, victim) = sleep.await.expect("no panic");
    assert_eq!(state(&ended.expect_err("canceled")), "57014");
    assert!(truth(&victim, "SELECT true").await, "the session goes on");
    assert!(!truth(&other, "SELECT pg_cancel_backend(999999)").await);
}

#[tokio::test]
async fn one_session_ends_another() {
    let server = Running::start();
    let (victim, other) = (server.connect().await, server.connect().await);
    let number = pid(&victim).await;
    let sleep = tokio::spawn(async move { victim.batch_execute("SELECT pg_sleep(1000)").await });
    until(&other, &format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = {number} AND state = 'active'")).await;
    assert!(truth(&other, &format!("SELECT pg_terminate_backend({number})")).await);
    assert_eq!(state(&sleep.await.expect("no panic").expect_err("ended")), "57P01");
    until(&other, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {number}")).await;
}

#[tokio::test]
async fn an_advisory_lock_keeps_others_waiting_until_it_is_given_back() {
    let server = Running::start();
    let (holder, waiter) = (server.connect().await, server.connect().await);
    holder.batch_execute("SELECT pg_advisory_lock(42)").await.expect("free");
    assert!(!truth(&waiter, "SELECT pg_try_advisory_lock(42)").await);
    assert!(truth(&waiter, "SELECT pg_try_advisory_lock(42, 1)").await, "another key");
    let waiting = tokio::spawn(async move { (waiter.batch_execute("SELECT pg_advisory_lock(42)").await, waiter) });
    until(&holder, "SELECT count(*) > 0 FROM pg_locks WHERE objid = 42 AND classid = 0 AND NOT granted").await;
    assert!(truth(&holder, "SELECT pg_advisory_unlock(42)").await);
    let (locked, waiter) = waiting.await.expect("no panic");
    locked.expect("the lock");
    assert!(!truth(&holder, "SELECT pg_advisory_unlock(42)").await, "it is another's");
    drop(waiter);
    until(&holder, "SELECT count(*) = 0 FROM pg_locks").await;
}

#[tokio::test]
async fn waiting_for_a_lock_can_be_canceled_and_has_a_limit() {
    let server = Running::start();
    let (holder, waiter) = (server.connect().await, server.connect().await);
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.expect("free");
    let token = waiter.cancel_token();
    let waiting = tokio::spawn(async move { (waiter.batch_execute("SELECT pg_advisory_lock_shared(1)").await, waiter) });
    until(&holder, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'").await;
    token.cancel_query(tokio_postgres::NoTls).await.expect("the request is sent");
    let (canceled, waiter) = waiting.await.expect("no panic");
    assert_eq!(state(&canceled.expect_err("canceled")), "57014");
    until(&holder, "SELECT count(*) = 1 FROM pg_locks").await;
    waiter.batch_execute("SET lock_timeout = '1ms'").await.expect("a setting");
    let late = waiter.batch_execute("SELECT pg_advisory_lock(1)").await.expect_err("held");
    assert_eq!(state(&late), "55P03");
}

#[tokio::test]
async fn a_lock_of_a_transaction_ends_with_it() {
    let server = Running::start();
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1); SAVEPOINT s; SELECT pg_advisory_xact_lock(2)").await.expect("free");
    assert!(!truth(&two, "SELECT pg_try_advisory_xact_lock(2)").await);
    one.batch_execute("ROLLBACK TO s").await.expect("a savepoint");
    assert!(truth(&two, "SELECT pg_try_advisory_xact_lock(2)").await, "locked after the savepoint");
    assert!(!truth(&two, "SELECT pg_try_advisory_xact_lock(1)").await, "locked before it");
    one.batch_execute("COMMIT").await.expect("an end");
    assert!(truth(&two, "SELECT pg_try_advisory_xact_lock(1)").await);
    assert!(truth(&one, "SELECT count(*) = 0 FROM pg_locks").await, "outside a block they end with the statement");
}

/// A client, and the messages it hears.
async fn listener(server: &Running) -> (Client, impl futures::Stream<Item = Notification> + Unpin + use<>) {
    let (client, mut connection) = server.try_connect().await.expect("a connection");
    let (sender, heard) = futures::channel::mpsc::unbounded();
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.unbounded_send(notification);
            }
        }
    });
    (client, heard)
}

#[tokio::test]
async fn a_message_comes_to_who_listens_once_it_is_committed() {
    let server = Running::start();
    let (listening, mut heard) = listener(&server).await;
    let sender = server.connect().await;
    listening.batch_execute("LISTEN news").await.expect("accepted");
    sender.batch_execute("BEGIN; NOTIFY news, 'lost'; ROLLBACK; SELECT pg_notify('other', 'x')").await.expect("sent");
    sender.batch_execute("BEGIN; NOTIFY news, 'rain'; NOTIFY news, 'rain'; SELECT pg_notify('news', 'sun'); COMMIT").await.expect("sent");
    let number = pid(&sender).await;
    for text in ["rain", "sun"] {
        // no statement of its own is needed to hear of it
        let next = tokio::time::timeout(PATIENCE, heard.next()).await.expect("in time").expect("a message");
        assert_eq!((next.process_id(), next.channel(), next.payload()), (number, "news", text));
    }
    listening.batch_execute("DISCARD ALL").await.expect("discarded");
    sender.batch_execute("NOTIFY news, 'late'").await.expect("sent");
    listening.batch_execute("LISTEN own; NOTIFY own").await.expect("sent");
    let next = tokio::time::timeout(PATIENCE, heard.next()).await.expect("in time").expect("a message");
    assert_eq!((next.channel(), next.payload()), ("own", ""));
}
