// Package queue makes jobs durable on NATS JetStream and hands them out again.
//
// It is the only package that imports nats.go. A job's body is opaque bytes here: what Facebook accepts is known to
// package sendapi, what a worker does with a job to package worker.
//
// What stands on the server:
//
//   - BRAZIER_JOBS, a work-queue stream with subjects brazier.jobs.<page>.<lane>. It refuses new jobs when it is full
//     and never discards old ones. Beside the jobs it keeps the ids of those accepted, brazier.keys.<page>.<id>, for the
//     window of an idempotency key.
//   - One durable pull consumer <page>-<lane> for each page and lane, so that one page's backlog never stands before
//     another's.
//   - BRAZIER_DEAD, subjects brazier.dead.<page>.<class>: jobs that cannot be delivered, whole, with the reason.
//   - BRAZIER_RETRIES, a key-value bucket with one record per job that was put back: how often it was tried, and at
//     which delivery it was put back.
//   - BRAZIER_PAGES, a key-value bucket with what all workers know of a page: whether it is held, and why.
//   - BRAZIER_PACE, a key-value bucket in memory: for each pace of a page, when its next free slot begins.
//   - BRAZIER_CLAIMS, on a single server only: the deliveries that workers have begun.
//
// Invariants:
//
//   - [Queue.Publish] returns without error only after JetStream has stored the job together with its id, as one atomic
//     batch: after a crash, whenever it comes, both are there or neither is. A job whose id is there is a duplicate, over
//     every restart, whether it is still in the queue or long delivered. Memory and disk for that are about half a
//     kilobyte for each id in the window.
//   - A job leaves BRAZIER_JOBS only by a confirmed acknowledgement ([Delivery.Done], [Delivery.Bury]), and a dead
//     letter is stored before its job is acknowledged. A crash between the two leaves both; the message id of the
//     dead letter keeps it single.
//   - A job that is put back has its record written before the negative acknowledgement. A redelivery that no record
//     announces is therefore one that a worker lost: [Delivery.InDoubt]. A single server may forget, when it is killed,
//     which jobs it handed out in its last moments; the claim that [Delivery.Begin] writes before any work tells.
//   - Consumers have no BackOff and no MaxDeliver. With BackOff the server adds the delay of a negative
//     acknowledgement on top of its own; past MaxDeliver a message stays in the stream and is never delivered again
//     (both measured on nats-server 2.15.2).
package queue
