package queue

import "time"

// The constants that depend on each other, and on the times that nats-server takes for its own work. Each tells its unit,
// where it comes from and what breaks when it is wrong. Their inequalities, with what breaks without each, stand in
// timing_test.go, which holds them. A constant that depends on no other stands beside the code that uses it.
//
//	requests   writeTimeout < waitLogAfter, apiTimeout ≤ waitLogAfter, removeTimeout ≤ writeTimeout
//	lease      renewal due + look + write ≤ half a lease; the same + an election + a retry < a lease;
//	           2 heartbeats of a pull < a lease; unanswered pings ≤ a lease; a lease + an election < minDoneAge
//	waits      2 repairPause + 2 apiTimeout < waitKept; apiTimeout + longest retry < refusalCounts
//	lanes      lanesRetry < lanesEvery < LaneSilence
//	pulls      2 pullHeartbeat ≤ pullExpiry ≤ pullSpare · pullHeartbeat
//	paces      maxLate ≤ contendedSpan < soloSpan < horizon < contendedFor; paceMemory < an election
//	batches    minBatch ≤ maxAloneFlushed < manyWrites < maxBatch ≤ the server's 1000; recordSpacing < busyLasts
//	records    minDoneAge < defaultWindow; maxExpire < recordAge

// Lease is how long the server waits for an acknowledgement of a job, or for a sign that it is in progress, before it
// delivers the job again: how long the jobs of a killed worker are out of reach. A [Queue] renews the leases of its jobs
// until they are settled. A shorter lease would end while a stream elects a leader, and put jobs in doubt; a longer one
// delays every job of a killed worker.
const Lease = 30 * time.Second

const (
	// renewAfter and renewEvery are parts of a lease: a lease is renewed when a third of it is over, and due leases are
	// looked for 15 times per lease. More than half of the lease is then left for a server that does not answer. With
	// fewer parts [Delivery.OwnsLease] is false between two renewals; with more, each job costs more messages.
	renewAfter = 3
	renewEvery = 15
)

// Requests to the server.
const (
	// apiTimeout bounds one request. An election takes 4 to 9 s (measured on nats-server 2.15.2), so requests fail during
	// one, and are made again. A shorter bound makes requests fail on a busy server; with a longer one a lost request is
	// repeated late.
	apiTimeout = 5 * time.Second
	// writeTimeout bounds the wait for the acknowledgement of one write. It is shorter than apiTimeout, since callers of
	// the ingress wait for it. With a longer one a lost acknowledgement is noticed late.
	writeTimeout = 3 * time.Second
	// removeTimeout bounds the removal of a job that was read and not delivered. Whoever settles the job waits for it; if it
	// fails, the next reader of the job removes it.
	removeTimeout = 2 * time.Second

	// Delays between the attempts of one request grow from the first to the longest, and vary by half. The longest bounds
	// how long after a recovery of the server work goes on. Shorter delays load a server that is starting.
	retryFirst, retryLongest = 50 * time.Millisecond, 2 * time.Second
	// Callers of the ingress wait for Publish. None is to wait for long once the server is back, reconnecting included.
	publishRetryFirst, publishRetryLongest = 20 * time.Millisecond, 250 * time.Millisecond
	// A reservation of slots competes with other workers, and an attempt that failed can succeed at once.
	paceRetryFirst, paceRetryLongest = 2 * time.Millisecond, 250 * time.Millisecond

	// reconnectWait is the delay between attempts to connect, to which up to reconnectJitter (with TLS twice as much) is
	// added. A longer one prolongs each outage, a shorter one makes hundreds of processes connect at once.
	reconnectWait, reconnectJitter = 250 * time.Millisecond, 250 * time.Millisecond
	// pingInterval and maxPings are how a connection is found dead that was not closed: after maxPings unanswered pings,
	// at the next interval. Later, a worker would hold jobs whose leases it cannot renew.
	pingInterval, maxPings = 10 * time.Second, 2
)

// Waits: see waits.go.
const (
	// waitLogAfter is how long something is waited for before the log tells so and the process is not ready. Most elections
	// end before. A shorter one logs each restart of a server; a longer one leaves an operator without a reason while the
	// process does nothing.
	waitLogAfter = 5 * time.Second
	// waitLogEvery is how often the log tells of a wait that goes on.
	waitLogEvery = time.Minute
	// waitPolls and waitGrace are parts of waitLogAfter: how often per waitLogAfter waits are looked at, and for which part
	// of it a retrier tries without being counted. Without the grace each request that is repeated once takes a lock.
	waitPolls, waitGrace = 5, 10
	// waitKept is how long a wait is kept without a waiter, since callers that are refused come again, and since the
	// repairer looks only now and then. If it is shorter than the pause between two looks of the repairer, a lasting outage
	// is logged as over again and again.
	waitKept = 15 * time.Second

	// repairPause is the least time between two looks of the repairer at the streams, repairEvery the time between two
	// looks without a complaint, give or take a fifth. Each look is four requests. Longer times leave a removed stream
	// missing for longer.
	repairPause = time.Second
	repairEvery = 15 * time.Second

	// replicaSilence is how long a replica may be silent before it counts as gone: its leader hears of it every second. A
	// leader that lost the others goes on saying that it leads for up to 20 s (measured on nats-server 2.15.2); a longer
	// replicaSilence would believe it.
	replicaSilence = 10 * time.Second

	// refusalCounts is for how long a permission violation counts as the reason why a request has no answer. It is longer
	// than the time between two attempts of a request, or the reason would come and go.
	refusalCounts = 15 * time.Second
	// refusalLogEvery is how often the same violation is logged.
	refusalLogEvery = time.Minute
)

// Pull requests of a [Source].
const (
	// pullExpiry is how long one pull request waits at the server. A shorter one costs idle lanes more requests.
	pullExpiry = 30 * time.Second
	// pullHeartbeat is the interval of the server's messages to an idle pull request, one per lane. After two intervals
	// without any message the request counts as lost: its consumer was deleted, or its server killed. nats.go refuses more
	// than half of pullExpiry.
	pullHeartbeat = 10 * time.Second
	// pullSpare is how many messages a buffer takes beside jobs: the heartbeats of one request. With fewer the server's
	// messages could displace jobs, which would then be delivered again in doubt.
	pullSpare = 8
	// pullAnswer is how long the answer to a pull request may be on its way while there are jobs. It is waited for before
	// a subscription ends: what arrives later was delivered to nobody, and comes back as in doubt.
	pullAnswer = 200 * time.Millisecond
)

// Lanes: see lanes.go.
const (
	// LaneSilence is after how long a process that publishes to a lane leaves the lane's marker again. Workers that
	// hear of no marker of a lane for a minute, and find nothing in it, do not fetch from it: with a longer one they
	// would leave lanes that are in use.
	LaneSilence = 30 * time.Second
	// lanesEvery is how often WatchLanes asks for the markers, and so how long the first job of a lane waits whose
	// marker was lost, and lanesRetry how often it asks while the stream does not answer. Shorter ones cost a server of
	// many workers more requests.
	lanesEvery, lanesRetry = time.Second, 200 * time.Millisecond
)

// Paces: see pace.go.
const (
	// soloSpan is how many seconds' worth of slots one reservation takes, contendedSpan the same while other workers
	// take slots too, and contendedFor for how long after the last of theirs. Longer spans leave other workers without
	// slots, and lose more when a worker dies; shorter ones cost more writes.
	soloSpan      = time.Second / 8
	contendedSpan = time.Second / 40
	contendedFor  = 3 * time.Second
	// horizon is how far ahead slots are reserved. An urgent job waits for its slot no longer than this. With a shorter
	// horizon a worker could not reserve the next slots before it needs them.
	horizon = 250 * time.Millisecond
	// maxLate is how long before now the first slot of a reservation may lie. Slots that are later are dropped. A longer one
	// lets calls of two windows come together, a shorter one drops slots on a slow connection.
	maxLate = 20 * time.Millisecond
	// paceMemory is how long this process believes its own last write. It is shorter than an election (4 s): after one a
	// bucket in memory may be another, with the same revision for other contents.
	paceMemory = 2 * time.Second
	// maxAhead is how far ahead, beyond any slot in use, the next slot may be. Beyond it a clock was wrong, and the pace
	// begins anew. A shorter one would do so while a leader's clock differs a little.
	maxAhead = time.Minute

	// clockEvery is how often the offset of the server's clock is measured, give or take clockSpread of it. Quartz drifts
	// by less than 0.1 ms/s. With a longer interval the drift would move slots.
	clockEvery  = 10 * time.Second
	clockSpread = 0.2
)

// Batches of writes: see write.go and yield.go.
const (
	// maxAloneFlushed and maxAlone are how many messages may be on their way by themselves before others wait for a batch:
	// where the server is known to flush each, and where that is not known. With more, a flushing server stores a thousand a
	// second; with fewer, single messages wait for each other. Without flushes only a slow server lets so many gather.
	maxAloneFlushed, maxAlone = 8, 1000
	// minBatch is the least number of messages for which a batch is made. A batch costs the server about a millisecond,
	// and is cheaper than single messages from about ten (measured on nats-server 2.15.2).
	minBatch = 6
	// maxBatch is the most messages of one batch. The server takes 1000, and answers for 1024 when the conditions of all
	// are looked up. A larger batch takes longer to flush than its callers wait.
	maxBatch = 480
	// maxBatchBytes bounds the bytes of one batch, and maxSharedBytes those of a message in one: a larger message goes by
	// itself, or the small ones would wait for it.
	maxBatchBytes, maxSharedBytes = 4 << 20, 128 << 10

	// manyWrites is how many jobs are on their way to the stream at one time when the ingress counts as busy. A campaign on
	// a few connections stays below it. If it is too low, workers yield for nothing; too high, callers wait for workers.
	manyWrites = 32
	// busyLasts is how long the ingress counts as busy after that: longer than the time until the next jobs are on their
	// way, and than recordSpacing.
	busyLasts = 100 * time.Millisecond
	// recordSpacing is how far apart batches of records begin while the ingress is busy, and so how long each of a job's two
	// records may wait. A few at a time, records keep the disk busy with flushes for which the ingress waits (measured: 130
	// flushes a second for 500 jobs, and half of 8,333 requests a second answered after 460 ms instead of 20 ms).
	recordSpacing = 50 * time.Millisecond
)

// Ages of what is stored.
const (
	// recordAge is the time to live of the record of a job that is not settled: longer than a job may wait, and than a NATS
	// cluster may be away. A job whose record is gone looks as if nobody had begun it, and could be sent twice.
	recordAge = 30 * 24 * time.Hour
	// minDoneAge is the least time to live of the record of a settled job. The job's acknowledgement may be lost, so that
	// the job is delivered again, and its publisher, whose answer was lost, may publish it again: both have to find the
	// record.
	minDoneAge = 10 * time.Minute
	// maxExpire bounds how long a job may wait in the queue.
	maxExpire = 7 * 24 * time.Hour
	// defaultWindow is for how long an idempotency key is remembered: Braze repeats a request within 30 minutes.
	defaultWindow = 2 * time.Hour
)

// Reading of dead letters: see deadletterwalk.go.
const (
	// deadLetterHeartbeat is the interval of the server's messages while it has nothing. After three without a message the
	// reader asks whether there is a dead letter to come.
	deadLetterHeartbeat = time.Second
	// deadLetterResets bounds how often a lost consumer is made again, after 1 s, 2 s and 4 s, and deadLetterTimeout how
	// long the server may be silent. Both are longer than an election; with less a reader fails at each.
	deadLetterResets  = 4
	deadLetterTimeout = 15 * time.Second
)
