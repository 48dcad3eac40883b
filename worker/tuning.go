package worker

import (
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// The constants by which a worker is tuned. All are our choice unless they name a source. The column "needs" has what must hold
// between them, and between them and those of the queue, and "else" what happens where it does not. TestTuning checks it.
//
//	what                     value      needs                            else
//	-- leases and looks
//	stuckTimeout             10 s       ≤ Lease/3                        a job is delivered while it waits here
//	probeLease               15 s       > 2·lookEvery, > requeueDelay    two workers try a page at a time
//	lookEvery                2 s
//	statsEvery               10 s       < Lease                          a job whose marker was lost lies longer
//	laneIdle                 60 s       ≥ LaneSilence + 2·statsEvery     lanes that are in use fall asleep
//	overdueEvery             30 s       ≥ 1 s (queue.Overdue.Claim)      several workers look for expired jobs
//	stillEvery               5 min      ≥ stillLooks·1 s (queue.Claim)   several workers tell of the same hold
//	-- slots
//	rateTarget               0.98
//	maxCallDelay             20 ms      ≤ 1 s·(1 - rateTarget)           a second has more calls than Facebook allows
//	slotTolerance            10 ms      ≤ maxCallDelay                   slots are granted that are of no use
//	askAhead                 25 ms      > slotTolerance                  a busy page has no slot between two requests
//	enoughSlots              10         > askAhead · 300 a second        the same, at Facebook's hard limit
//	steadyGap                250 ms
//	minRateShare             0.1        · MinRate ≥ 0.001 (queue.Pace)   the slowest page gets no slots
//	-- after refusals
//	requeueDelay             1 s        < behind                         a refused job is tried again before others
//	roundIdle                5 s        < behind                         a round does not end where there are no others
//	roundTries               10         > fewProbes
//	behind                   10 s
//	-- the end
//	DefaultDrain             15 s       + settleGrace < 27 s             the process is killed while it settles
//	settleGrace              3 s           (cmd: the shutdown budget)

// Leases and looks.
const (
	// stuckTimeout is how long a fetched job may wait to be begun. After it, it and what is buffered behind it go back to where
	// another worker can have them, before their lease runs out under us.
	stuckTimeout = queue.Lease / 3
	// probeLease is how long a worker's claim lasts without being renewed. It is renewed when a third of it is over.
	probeLease = 15 * time.Second
	// lookEvery is how often a page that waits for other credentials, or for others to try, looks again.
	lookEvery = 2 * time.Second
	// statsEvery is the default time between looks at the backlog.
	statsEvery = 10 * time.Second
	// laneIdle is after how long without a job or a marker a lane falls asleep.
	laneIdle = time.Minute
	// overdueEvery is how often one worker of all looks for expired jobs where nobody fetches them. Their senders learn of it so
	// much later at most, and what they take of the queue is free again.
	overdueEvery = 30 * time.Second
	// stillEvery is how often a hold is told again: an alert over the last ten minutes finds one line at least. stillLooks is how
	// often it is looked meanwhile whether another worker has told it.
	stillEvery, stillLooks = 5 * time.Minute, 5
	// maxLost is how often a job may be lost without a settlement: a worker killed, a connection gone. A job that is lost again
	// and again is likely what kills its workers.
	maxLost = 5
)

// Slots and permits.
const (
	// rateTarget is the part of a rate that is aimed at. What is left keeps a second from holding more calls than it may when
	// some are a little late: at 40 a second 20 ms, at 300 a second 35 ms.
	rateTarget = 0.98
	// slotTolerance is how late a slot may be granted, and maxCallDelay how late its call may then begin. Later, the slot is let
	// go.
	slotTolerance = 10 * time.Millisecond
	maxCallDelay  = 20 * time.Millisecond

	// steadyGap is how soon one request for slots follows another where jobs come one by one, but all the time.
	steadyGap = 250 * time.Millisecond
	// askAhead is how long before the last slot more are asked for.
	askAhead = 25 * time.Millisecond
	// enoughSlots last longer than askAhead at any rate that Facebook allows.
	enoughSlots = 10
	// otherShare is how many slots in a row go to the first of several lanes while another has something to send: nine in ten.
	otherShare = 9

	// minRateShare is the part of its rate that a page keeps, however little Facebook leaves it.
	minRateShare = 0.1
	// usageFrom is the percentage of Facebook's limits from which a page goes slower, down to minRateShare at 100.
	usageFrom = 75
	// usageFor is how long a report of usage counts. Facebook leaves the headers away while there is little to tell.
	usageFor = time.Minute

	// inFlightFor is twice what a call to Facebook usually takes (0.8 s), and what its settlement takes besides.
	inFlightFor = 1.6 // seconds
	// minInFlight lets a slow page's calls hang for a while. maxInFlight is more than Facebook's rates ask for; each call is a
	// connection.
	minInFlight, maxInFlight = 64, 10_000
	// maxIdle is how many goroutines of the pool wait for work at most, some 16 KiB each.
	maxIdle = 256
	// maxBurials is how many expired jobs of one source are settled at a time: enough that their writes share flushes.
	maxBurials = 32
)

// paceRetry is how long after a failure slots are asked for again. What asking again mends soon [queue.Pace] waits for itself.
var paceRetry = Delays{First: time.Second, Max: time.Minute}

// After refusals.
const (
	// requeueDelay is the delay of a job that is requeued by a hold: longer than other workers take to hear of it.
	requeueDelay = time.Second
	// behind is for how long after the end of a hold, messages that were refused before are left alone, so that another is tried
	// before them.
	behind = 10 * time.Second
	// fewProbes is after how many refusals a message is left alone for longer: for farProbes times its page's hold.
	fewProbes, farProbes = 3, 7
	// clearedFor is for how long a code that stopped a page takes a row of clearedTimes the length to stop it again, once another
	// message was taken: it is most likely the messages' own.
	clearedFor, clearedTimes = time.Hour, 10

	// roundTries is how many different messages are refused in a round until the page is held for longer.
	roundTries = 10
	// roundSkips is how many messages of refused campaigns are requeued in a round without being sent. Each costs a record: at a
	// flush of 5 ms for each these take 2.5 s.
	roundSkips = 500
	// roundIdle is for how long after the last message there must have been no other until one is tried again.
	roundIdle = 5 * time.Second
)

// Less in tests.
var (
	defaultBehind = behind
	// asideDelays are between attempts of a message that was refused as if its page might not send, while the page goes on.
	asideDelays = Delays{First: 10 * time.Second, Max: 15 * time.Minute}
	// circuitDelays are between attempts to reach Facebook.
	circuitDelays = Delays{First: 2 * time.Second, Max: time.Minute}
)

// The circuit.
const (
	// circuitAfter is how many calls in a row, of all pages together, have to go without an answer of Facebook's until Facebook
	// counts as away. These are calls and not messages: a message alone in its queue would else be sent again and again to a
	// Facebook that is away, and use its attempts up. Where one message makes Facebook fail, the next try is made with whichever
	// other comes.
	circuitAfter = 5
	// circuitPages is how many pages fetch a message for the next try. One message is sent and the others are requeued, which at
	// hundreds of pages is more work than the jobs are. Their number doubles each circuitWiden for which nobody has tried.
	circuitPages = 8
	circuitWiden = lookEvery
)

// settleGrace is what settling may take after the drain budget has cut off the calls.
const settleGrace = 3 * time.Second
