package queue

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The metadata that tells how many partitions there are: their number; since when, in Unix milliseconds by the server's clock; and
// the numbers that were in use before, such as "1,4". Without the first there is one partition, and without the second the number
// is the one that the queue was made with. BRAZIER_JOBS and BRAZIER_RECORDS both have it, so that the number outlasts the loss of one
// of them. The number is only ever raised, so of several the greatest is right.
const (
	partitionsKey      = "brazier.partitions"
	partitionsSinceKey = "brazier.partitions.since"
	partitionsWasKey   = "brazier.partitions.was"
)

// division is how many partitions there are.
type division struct {
	partitions int
	since      time.Time // when the last of them are used from; zero: since the queue was made
	was        []int     // how many were in use before, one number after the other
}

// at returns how many partitions are used at a time of the server's clock.
func (d division) at(now time.Time) int {
	if len(d.was) == 0 || !now.Before(d.since) {
		return d.partitions
	}
	return d.was[len(d.was)-1]
}

// numbers returns how many partitions are, were and will be in use.
func (d division) numbers() []int { return append(d.was[:len(d.was):len(d.was)], d.partitions) }

// raised returns the division with more partitions, to be used from a time on.
func (d division) raised(partitions int, since time.Time) division {
	return division{partitions: partitions, since: since, was: d.numbers()}
}

// metadata is the inverse of readDivision, empty for one partition.
func (d division) metadata() map[string]string {
	m := map[string]string{}
	if d.partitions > 1 {
		m[partitionsKey] = strconv.Itoa(d.partitions)
	}
	if len(d.was) > 0 {
		var was []string
		for _, n := range d.was {
			was = append(was, strconv.Itoa(n))
		}
		m[partitionsSinceKey], m[partitionsWasKey] = strconv.FormatInt(d.since.UnixMilli(), 10), strings.Join(was, ",")
	}
	return m
}

// readDivision reads the metadata of a stream.
func readDivision(stream *jetstream.StreamConfig) (d division, err error) {
	bad := func(key string) (division, error) {
		return division{}, &StreamError{stream.Name, fmt.Sprintf("its metadata has %q under %s, which Brazier never wrote there", stream.Metadata[key], key),
			"set it as in the metadata of " + StreamJobs + " or " + StreamRecords + ", or restore the stream"}
	}
	number := func(text string) (int, bool) {
		n, err := strconv.Atoi(text)
		return n, err == nil && n >= 1 && n <= maxPartitions
	}
	d.partitions = 1
	if text, ok := stream.Metadata[partitionsKey]; ok {
		if d.partitions, ok = number(text); !ok {
			return bad(partitionsKey)
		}
	}
	was, ok := stream.Metadata[partitionsWasKey]
	if !ok {
		return d, nil
	}
	for text := range strings.SplitSeq(was, ",") {
		n, ok := number(text)
		if !ok || n >= d.partitions {
			return bad(partitionsWasKey)
		}
		d.was = append(d.was, n)
	}
	ms, err := strconv.ParseInt(stream.Metadata[partitionsSinceKey], 10, 64)
	if err != nil {
		return bad(partitionsSinceKey)
	}
	d.since = time.UnixMilli(ms)
	return d, nil
}

// partitionOf returns the partition, from 1, of a page among n. It is jump consistent hash (Lamping and Veach, arXiv:1406.2294):
// where n grows by one, each page stays or moves to the last partition, and one in n moves.
func partitionOf(page string, n int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(page)) // never fails
	key := h.Sum64()
	last, next := int64(0), int64(0)
	for next < int64(n) {
		last = next
		key = key*2862933555777941757 + 1
		next = int64(float64(last+1) * (float64(1<<31) / float64(key>>33+1)))
	}
	return int(last) + 1
}
