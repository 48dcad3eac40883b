package queue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Partitions
//
// One stream is led by one server, and what a server does for one stream it does on a few processors. So that a cluster can
// carry more than that, messages to people are divided by page among partitions: pairs of a stream of jobs and the stream of
// their records. There is one of everything else. Partition 1 is BRAZIER_JOBS and BRAZIER_RECORDS, partition 2 is BRAZIER_JOBS_2 and
// BRAZIER_RECORDS_2, and so on.
//
// How many there are is stored with the streams (see division.go), so that no two processes can be configured differently. [Setup]
// alone changes the number, and raises it only. A page then stays where it is or moves to a new partition (see partitionOf). Every
// process reads the number when it opens the queue and then every [repairEvery], takes from all partitions at once, and stores in
// the new ones from a time on that Setup has chosen [partitionsLead] ahead, all processes at the same time by the server's clock.
//
// The jobs of a page that has moved are taken from its old partition too, and ids are looked up there, first among the jobs and
// then among the records, since a job is removed only after it has a record: a key that is repeated after the move is recognized. What
// is not: the same key posted through two processes at the moment of the change, and one whose job is settled while the replicas that are
// asked lag.

const (
	// maxPartitions is our choice: far more than the servers of one cluster can use.
	maxPartitions = 32
	// partitionsLead is how far ahead Setup chooses the time from which on new partitions are used. Each process reads it
	// several times meanwhile.
	partitionsLead = 8 * repairEvery
)

// partition is one pair of streams of jobs and records, and what this process writes into them.
type partition struct {
	jobsName, recordsName                    string // of the streams
	jobSubjects, recordSubjects, laneSubject string // what their subjects begin with

	jobs, records        jetstream.Stream // set before Open returns
	accepting, recording *writer          // of jobs and of records
	lanes                *laneMarkers
	shares               *shares
}

// streamOfPartition names a stream of a partition, by that of the first.
func streamOfPartition(name string, number int) string {
	if number == 1 {
		return name
	}
	return name + "_" + strconv.Itoa(number)
}

// partitionOfStream is the inverse of streamOfPartition; for any other stream it returns that, and 0.
func partitionOfStream(stream string) (name string, number int) {
	for _, name := range []string{StreamJobs, StreamRecords} {
		if stream == name {
			return name, 1
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(stream, name+"_")); err == nil && streamOfPartition(name, n) == stream {
			return name, n
		}
	}
	return stream, 0
}

// HoldsJobs reports whether a stream has messages to people, of whatever partition.
func HoldsJobs(stream string) bool {
	name, _ := partitionOfStream(stream)
	return name == StreamJobs
}

// subjectsOfPartition are likewise what the subjects of a partition begin with: brazier.jobs-2. for brazier.jobs.
func subjectsOfPartition(subjects string, number int) string {
	if number == 1 {
		return subjects
	}
	return strings.TrimSuffix(subjects, ".") + "-" + strconv.Itoa(number) + "."
}

func newPartition(q *Queue, number int) *partition {
	p := &partition{
		jobsName: streamOfPartition(StreamJobs, number), recordsName: streamOfPartition(StreamRecords, number),
		jobSubjects:    subjectsOfPartition(jobSubjects, number),
		recordSubjects: subjectsOfPartition(recordSubjects, number),
		laneSubject:    subjectsOfPartition(laneSubjects, number),
	}
	p.accepting, p.recording = newWriter(q, p.jobsName), newWriter(q, p.recordsName)
	p.recording.spacing = q.recordSpacingNow
	p.lanes, p.shares = newLaneMarkers(q, p), newShares(q, p)
	return p
}

// has reports whether a stream is one of the partition's.
func (p *partition) has(stream string) bool { return stream == p.jobsName || stream == p.recordsName }

func (p *partition) recordSubject(page string, lane Lane, id string) string {
	return p.recordSubjects + page + "." + string(lane) + "." + id
}

// recordOf is where the records of a job are, in any lane.
func (p *partition) recordOf(job *Job) lookup {
	return lookup{p.records, p.recordsName, p.recordSubject(job.Page, "*", job.ID)}
}

// store is where a job is stored.
type store struct {
	route
	*partition // of its record
}

// store is where the jobs of messages to people are stored in a partition.
func (p *partition) store() store { return store{route{p.jobsName, p.jobSubjects}, p} }

// jobSubject is that of one job; with "*" for the id it is the filter of a lane's consumer.
func (s store) jobSubject(page string, lane Lane, id string) string {
	return s.subjects + page + "." + string(lane) + "." + id
}

// jobsWithID is the subject of the jobs with this id, in any lane of the same stream.
func (s store) jobsWithID(page, id string) string { return s.subjects + page + ".*." + id }

// partitions has all partitions of a queue, from dial on the first.
type partitions struct {
	mu       sync.RWMutex
	all      []*partition
	division division
	grown    chan struct{} // closed when there are more

	refused      error     // why new ones cannot be used
	refusedSince time.Time // when others use those
}

// partitions returns all partitions.
func (q *Queue) partitions() []*partition {
	q.divided.mu.RLock()
	defer q.divided.mu.RUnlock()
	return q.divided.all
}

// division returns how many partitions there are, as far as this process knows.
func (q *Queue) division() division {
	q.divided.mu.RLock()
	defer q.divided.mu.RUnlock()
	return q.divided.division
}

// grown returns a channel that is closed when there are more partitions.
func (q *Queue) grown() <-chan struct{} {
	q.divided.mu.RLock()
	defer q.divided.mu.RUnlock()
	return q.divided.grown
}

// storeOf is where a new job is to be stored.
func (q *Queue) storeOf(page string, lane Lane) store { return q.storesOf(page, lane)[0] }

// storesOf are where jobs of a page and lane may be stored: first where new ones are, then where they were before, or will be. Of
// all pages there are messages in each partition.
func (q *Queue) storesOf(page string, lane Lane) []store {
	if !lane.isMessage() {
		return []store{{lane.route(), q.first}}
	}
	q.divided.mu.RLock()
	all, d := q.divided.all, q.divided.division
	q.divided.mu.RUnlock()
	if len(all) == 1 {
		return []store{q.first.store()}
	}
	if page == AllPages {
		stores := make([]store, len(all))
		for i, p := range all {
			stores[i] = p.store()
		}
		return stores
	}
	numbers := []int{partitionOf(page, d.at(q.Now()))}
	for _, n := range d.numbers() {
		if number := partitionOf(page, n); !slices.Contains(numbers, number) {
			numbers = append(numbers, number)
		}
	}
	stores := make([]store, len(numbers))
	for i, number := range numbers {
		stores[i] = all[number-1].store()
	}
	return stores
}

// noteRefused takes note that new partitions cannot be used, since the user lacks a permission, say. This process goes on with
// those that it has. [Queue.ReadyToWork] fails once others store messages in the new ones.
func (q *Queue) noteRefused(d division, err error) {
	q.divided.mu.Lock()
	defer q.divided.mu.Unlock()
	if q.divided.refused == nil || q.divided.refused.Error() != err.Error() {
		q.log.Error("new partitions cannot be used, so this process stores messages where it did before", zap.String("event", "partitions_refused"),
			zap.Time("since", d.since.UTC()), zap.Error(redact(err)))
	}
	q.divided.refused, q.divided.refusedSince = err, d.since
}

// refused returns why this process cannot use partitions that others use by now.
func (q *Queue) refused() error {
	q.divided.mu.RLock()
	defer q.divided.mu.RUnlock()
	if q.divided.refused == nil || q.Now().Before(q.divided.refusedSince) {
		return nil
	}
	return fmt.Errorf("new partitions cannot be used: %w", redact(q.divided.refused))
}

// adopt begins to use the partitions of a division, whose streams were found.
func (q *Queue) adopt(d division, found map[string]jetstream.Stream) {
	q.divided.mu.Lock()
	defer q.divided.mu.Unlock()
	all := slices.Clone(q.divided.all)
	for number := len(all) + 1; number <= d.partitions; number++ {
		p := newPartition(q, number)
		if q.repairer.isOpen() { // else Open does that
			go p.accepting.run()
			go p.recording.run()
		}
		all = append(all, p)
	}
	for _, p := range all {
		if p.jobs == nil {
			p.jobs, p.records = found[p.jobsName], found[p.recordsName]
		}
	}
	more := len(all) > len(q.divided.all)
	q.divided.all, q.divided.division = all, d
	if !more {
		return
	}
	q.divided.refused = nil
	q.clock.start() // by which all processes use them from the same time on
	fields := []zap.Field{zap.String("event", "partitions"), zap.Int("partitions", d.partitions)}
	if len(d.was) > 0 {
		fields = append(fields, zap.Time("since", d.since.UTC()))
	}
	q.log.Info("messages to people are divided among partitions", fields...)
	close(q.divided.grown)
	q.divided.grown = make(chan struct{})
}
