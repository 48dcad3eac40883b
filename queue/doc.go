// Package queue makes jobs durable on NATS JetStream and delivers them to workers.
//
// It is the only package that imports nats.go. A job's body is opaque bytes here: package sendapi knows what Facebook
// accepts, package worker what is done with a job.
//
// What is on the server:
//
//	BRAZIER_JOBS             a work-queue stream. It refuses new jobs when it is full and never discards old ones
//	  brazier.jobs.<page>.<lane>.<id>      one message per job
//	  brazier.lanes.<page>.<lane>          a marker for each lane that ever had a job
//	  consumers <page>-<lane>              one each, so that one page's backlog does not delay another's
//	BRAZIER_RECORDS          brazier.records.<page>.<lane>.<id>: what became of a job, the latest only: see record.go
//	  brazier.records.0.replayed.<id>      where a replayed job went on: see replayed.go
//	BRAZIER_JOBS_2, BRAZIER_RECORDS_2 …    the same for the pages of further partitions, under brazier.jobs-2 …: see partition.go
//	BRAZIER_DEAD             brazier.dead.<page>.<class>: jobs that cannot be delivered, whole, with the reason
//	BRAZIER_CAMPAIGNS        counters of what became of the messages of campaigns: see campaigns.go
//	KV_BRAZIER_PAGES         what all workers know of a page: whether it is held, and why
//	KV_BRAZIER_PACE          for each pace of a page, when its next free slot begins; in memory
//	KV_BRAZIER_ALIVE         which processes are alive: see alive.go
//
// The lifecycle of a job:
//
//	Publish ─▶ job ─▶ Source.Next ─▶ Delivery ─▶ Begin ─▶ record: begun
//	                                                                   ├─▶ Done ───────▶ record: done, job acknowledged
//	                                                                   ├─▶ DeadLetter ─▶ dead letter, record: done, job acknowledged
//	                                                                   └─▶ Retry ──────▶ record: waiting, job delivered again later
//
// Invariants:
//
//   - [Queue.Publish] returns without error only after JetStream has stored the job, on the condition that no other job in its
//     stream has its id, and after a look-up of its record, and in the partitions where its page was before. An id is taken for as long as its job is there, and after that for the window
//     of its idempotency key, over every restart. If a job is settled between the look-up and the condition, a second job
//     under its id is stored, and never begun.
//   - A job is worked on only after its record says so, and each write of a record is on the condition that the record was not
//     written since. Of two deliveries of a job one begins.
//   - A job is acknowledged only after its record says that it is done, and the record is written only after the dead letter, if
//     there is one. A crash in between leaves a job that no worker works on again.
//   - What a server, a run of a server or a consumer remembers of deliveries decides nothing. Consumers may be deleted, moved or
//     kept in memory.
//   - Consumers have no BackOff and no MaxDeliver. With BackOff the server adds its delay to that of a negative acknowledgement;
//     past MaxDeliver a message stays in the stream and is never delivered again (both measured on nats-server 2.15.2).
package queue
