// Package queue makes jobs durable on NATS JetStream and hands them out again.
//
// It is the only package that imports nats.go. A job's body is opaque bytes here: what Facebook accepts is known to
// package sendapi, what a worker does with a job to package worker.
//
// What is on the server:
//
//	BRAZIER_JOBS             a work-queue stream. It refuses new jobs when it is full and never discards old ones
//	  brazier.jobs.<page>.<lane>.<id>      one message per job
//	  brazier.lanes.<page>.<lane>          a marker for each lane that ever had a job
//	  consumers <page>-<lane>              one each, so that one page's backlog is never in another's way
//	BRAZIER_RECORDS          brazier.records.<page>.<lane>.<id>: what became of a job, the latest only: see record.go
//	BRAZIER_DEAD             brazier.dead.<page>.<class>: jobs that cannot be delivered, whole, with the reason
//	KV_BRAZIER_PAGES         what all workers know of a page: whether it is held, and why
//	KV_BRAZIER_PACE          for each pace of a page, when its next free slot begins; in memory
//
// The life of a job:
//
//	Publish ─▶ job ─▶ Source.Next ─▶ Delivery ─▶ Begin ─▶ record: begun ─▶ Done ──▶ record: done,    job acknowledged
//	                                                                   ├─▶ Bury ──▶ dead letter, record: done, job acknowledged
//	                                                                   └─▶ Retry ─▶ record: waiting, job handed out again later
//
// Invariants:
//
//   - [Queue.Publish] returns without error only after JetStream has stored the job, on the condition that no other job has
//     its id, and after a look for a record of it. An id is taken for as long as its job is there, and after that for the
//     window of its idempotency key, over every restart. Should a job be settled between the look and the condition, a second
//     one under its id is stored, and never begun.
//   - A job is worked on only after its record says so, and each write of a record is on the condition that nobody has
//     written it since. Of two deliveries of a job one begins.
//   - A job is acknowledged only after its record says that it is done, and that only after its dead letter, if it has
//     one, is stored. A crash in between leaves a job that nobody works on again.
//   - What a server, a run of a server or a consumer remembers of deliveries decides nothing. Consumers may be deleted,
//     moved or kept in memory.
//   - Consumers have no BackOff and no MaxDeliver. With BackOff the server adds the delay of a negative
//     acknowledgement on top of its own; past MaxDeliver a message stays in the stream and is never delivered again
//     (both measured on nats-server 2.15.2).
package queue
