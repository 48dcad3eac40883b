package queue

import (
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The layout
//
// The layout is the configuration of every stream and bucket on the server. Open compares what it finds with the
// layout, setting by setting, by the rules of rules.go. Each setting that differs has a grade:
//
//	same     it differs in a way that breaks nothing: left alone
//	drifted  the operator's choice, and another than the flags of this process ask for: reported, changed by Setup alone
//	added    a setting of this version that is missing, and that breaks nothing when it is added: added by processes that may
//	broken   a promise would not hold: refused, changed by Setup alone
//
// Each stream has the number of its layout, the schema, in its metadata. Streams without one were not made by a released
// version.

// layout returns all streams and buckets, in the order in which they are made.
func (c *Config) layout(d division) []jetstream.StreamConfig {
	return append(c.partitionStreams(d), c.otherStreams()...)
}

// partitionStreams returns the streams of all partitions, one partition after the other.
func (c *Config) partitionStreams(d division) (streams []jetstream.StreamConfig) {
	for number := range d.partitions {
		streams = append(streams, c.jobsStream(number+1), c.recordsStream(number+1))
	}
	setSchema(streams)
	for i := range 2 {
		maps.Copy(streams[i].Metadata, d.metadata())
	}
	if d.partitions > 1 {
		streams[0].Metadata[schemaKey] = strconv.Itoa(schemaOfPartitions)
	}
	return streams
}

func (c *Config) otherStreams() []jetstream.StreamConfig {
	streams := []jetstream.StreamConfig{c.deadStream(), c.pagesStream(), c.paceStream()}
	if c.RoadBack {
		streams = append(streams, c.eventsStream(), c.outcomesStream(), c.updatesStream(), c.peopleStream(), c.sentStream())
	}
	streams = append(streams, c.aliveStream(), c.campaignsStream()) // the last, so that counters take no space that messages need
	setSchema(streams)
	return streams
}

func setSchema(streams []jetstream.StreamConfig) {
	for i := range streams {
		streams[i].Metadata = map[string]string{schemaKey: strconv.Itoa(schema)}
	}
}

// planned returns the configuration of one stream of the layout.
func (c *Config) planned(name string) jetstream.StreamConfig {
	for _, stream := range c.layout(division{partitions: 1}) {
		if stream.Name == name {
			return stream
		}
	}
	panic("queue: the layout has no stream " + name)
}

// Names on the server. Operators' tools and alerts rely on them.
const (
	StreamJobs    = "BRAZIER_JOBS"
	StreamRecords = "BRAZIER_RECORDS"
	StreamDead    = "BRAZIER_DEAD"
	StreamEvents  = "BRAZIER_EVENTS"
	StreamUpdates = "BRAZIER_UPDATES"

	StreamOutcomes = "BRAZIER_OUTCOMES"

	// StreamCampaigns has the counters of campaigns.
	StreamCampaigns = "BRAZIER_CAMPAIGNS"
	BucketAlive     = "BRAZIER_ALIVE"
	BucketPace      = "BRAZIER_PACE"
	BucketPages     = "BRAZIER_PAGES"
	BucketPeople    = "BRAZIER_PEOPLE"
	BucketSent      = "BRAZIER_SENT"
)

const (
	defaultMaxBytes = 10 << 30
	defaultDeadAge  = 30 * 24 * time.Hour
	// defaultUpdatesMaxBytes is enough for what an hour of 300 messages a second has to say when Braze is to know all of it.
	defaultUpdatesMaxBytes = 4 << 30
	// defaultReceiptsFor is our choice: who has not read a message within a week rarely does.
	defaultReceiptsFor = 7 * 24 * time.Hour
	// maxConsumers is enough for the lanes of tens of thousands of pages. Without a number of its own a stream takes a
	// thousand, those of 333 pages (nats-server 2.15.2).
	maxConsumers = 100_000
)

// MaxExpire is the longest time a job may be asked to wait before it counts as expired.
const MaxExpire = maxExpire

func (c *Config) jobsStream(partition int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamOfPartition(StreamJobs, partition),
		Description: "Messages on their way to Facebook",
		Subjects:    []string{subjectsOfPartition(jobSubjects, partition) + "*.*.*", subjectsOfPartition(laneSubjects, partition) + "*.*"},
		Retention:   jetstream.WorkQueuePolicy,
		// A subject has one job, or one marker, which a new one replaces.
		MaxMsgsPerSubject: 1,
		// The default, DiscardOld, would silently drop the oldest job of a full queue.
		Discard:            jetstream.DiscardNew,
		MaxBytes:           c.MaxBytes,
		MaxConsumers:       maxConsumers,
		Storage:            jetstream.FileStorage,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		Replicas:           c.Replicas,
	}
}

// Records have a stream of their own. A consumer looks at every message between one of its own and the next, and on the
// stream of jobs most of those would be records of settled jobs (firstMatching in nats-server 2.15.2: with 500 busy
// pages they doubled the cost of a message).
func (c *Config) recordsStream(partition int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamOfPartition(StreamRecords, partition),
		Description: "What became of messages",
		Subjects:    []string{subjectsOfPartition(recordSubjects, partition) + "*.*.*"},
		Retention:   jetstream.LimitsPolicy,
		// A new record of a job replaces the old one. Each has a time to live. There is no other bound, since what
		// becomes of an accepted job has to be stored in any case.
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		Storage:            jetstream.FileStorage,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		AllowMsgTTL:        true,
		Replicas:           c.Replicas,
	}
}

func (c *Config) deadStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamDead,
		Description: "Messages that cannot be delivered, with the reason",
		Subjects:    []string{deadSubjects + ">"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      c.DeadMaxAge,
		Storage:     jetstream.FileStorage,
		Duplicates:  min(c.DeadMaxAge, 24*time.Hour),
		AllowDirect: true,
		Replicas:    c.Replicas,
	}
}

// campaignBytes bounds the counters on disk: a million, which take 300 MB of the server's memory. Beyond it those that were
// changed longest ago are removed, which are those of the oldest days.
const campaignBytes = 256 << 20

// campaignsStream has counters, which the server adds up: of several processes none has to know what the others counted.
// The server keeps them only in a stream that discards old messages (nats-server 2.15.2, checkStreamCfg).
func (c *Config) campaignsStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               StreamCampaigns,
		Description:        "What became of the messages of campaigns",
		Subjects:           []string{campaignSubjects + ">"},
		Retention:          jetstream.LimitsPolicy,
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardOld,
		MaxAge:             defaultDeadAge,
		MaxBytes:           campaignBytes,
		Storage:            jetstream.FileStorage,
		Duplicates:         minDoneAge, // a batch whose acknowledgement was lost is sent again for so long
		AllowDirect:        true,
		AllowAtomicPublish: true,
		AllowMsgCounter:    true,
		Replicas:           c.Replicas,
	}
}

// A page has an entry in two buckets, which differ in what a restart may cost. A hold must outlast it: a page with a
// dead token is not to be tried again because a server was restarted. A slot is worthless soon after, and a flush for
// each would cost the disk as much as the messages do. A single server forgets a bucket in memory when it is restarted
// (nats-server 2.15.2), so that the process that needs that bucket makes it, and [Open] does not ask for it.

func (c *Config) pagesStream() jetstream.StreamConfig {
	return c.bucket(BucketPages, "Pages that are held, and why", jetstream.FileStorage)
}

// paceBytes is enough for the paces of some 50,000 pages. Without a bound a cluster does not see that it has no memory for
// streams: it makes the bucket, and then refuses each write (nats-server 2.15.2, selectPeerGroup).
const paceBytes = 16 << 20

func (c *Config) paceStream() jetstream.StreamConfig {
	stream := c.bucket(BucketPace, "When the next call for each page may begin", jetstream.MemoryStorage)
	stream.MaxBytes = paceBytes
	return stream
}

// aliveStream is that of a bucket whose records end by themselves. What was written last is more welcome than what was before.
func (c *Config) aliveStream() jetstream.StreamConfig {
	stream := c.bucket(BucketAlive, "Ingresses and workers that are alive", jetstream.FileStorage)
	stream.MaxAge, stream.MaxBytes, stream.Discard, stream.AllowDirect = AliveFor, aliveBytes, jetstream.DiscardOld, true
	return stream
}

// eventsBytes bounds the events on disk: some three million. Beyond it webhooks are answered with 503, after which Facebook
// sends them again for an hour at the least.
const eventsBytes = 1 << 30

// sentBytes bounds what is known of messages that Facebook may still report on: some ten million people. Beyond it the
// oldest entries go, and Braze is not told that those messages were delivered or read.
const sentBytes = 4 << 30

func (c *Config) eventsStream() jetstream.StreamConfig {
	return c.besideJobs(StreamEvents, "Events of Facebook's webhooks", Events.route(), eventsBytes)
}

func (c *Config) outcomesStream() jetstream.StreamConfig {
	return c.besideJobs(StreamOutcomes, "What became of messages, for Braze", Outcomes.route(), c.UpdatesMaxBytes)
}

func (c *Config) updatesStream() jetstream.StreamConfig {
	return c.besideJobs(StreamUpdates, "Updates on their way to Braze", Updates("").route(), c.UpdatesMaxBytes)
}

// besideJobs is a stream like the stream of messages to people.
func (c *Config) besideJobs(name, description string, to route, bytes int64) jetstream.StreamConfig {
	stream := c.jobsStream(1)
	stream.Name, stream.Description, stream.Subjects = name, description, []string{to.subjects + "*.*.*"}
	stream.MaxBytes = bytes
	return stream
}

// peopleStream is that of a bucket in which any replica answers: a write has a condition, and a reader says which revision
// it needs.
func (c *Config) peopleStream() jetstream.StreamConfig {
	stream := c.bucket(BucketPeople, "Which user of Braze a person is", jetstream.FileStorage)
	stream.AllowDirect, stream.AllowAtomicPublish, stream.DenyDelete = true, true, false
	return stream
}

// sentStream is that of a bucket whose entries end by themselves. What is lost of them costs Braze a receipt, so new ones
// are more welcome than old ones.
func (c *Config) sentStream() jetstream.StreamConfig {
	stream := c.peopleStream()
	stream.Name, stream.Description, stream.Subjects = streamOf(BucketSent), "Messages that Facebook may still report on", []string{"$KV." + BucketSent + ".>"}
	stream.MaxAge, stream.MaxBytes, stream.Discard = c.ReceiptsFor, sentBytes, jetstream.DiscardOld
	return stream
}

// streamOf names the stream of a bucket.
func streamOf(bucket string) string { return "KV_" + bucket }

// bucket is a key-value bucket whose reads come from the leader. In the buckets that nats.go makes any replica answers,
// and one that lags would return an outdated value.
func (c *Config) bucket(bucket, description string, storage jetstream.StorageType) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              streamOf(bucket),
		Description:       description,
		Subjects:          []string{"$KV." + bucket + ".>"},
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew,
		AllowRollup:       true,
		DenyDelete:        true,
		Storage:           storage,
		Replicas:          c.Replicas,
	}
}
