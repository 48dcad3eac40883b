package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.uber.org/zap"
)

// headerIncrement has the number that the server adds to a counter (JSMessageIncr in nats-server 2.15.2). The server stores
// the sum, as {"val":"17"}.
const headerIncrement = "Nats-Incr"

// countBatch is some counts that are stored together or not at all.
type countBatch struct {
	id   string // the same at each attempt
	sums map[string]int64
}

// batchMarker is the subject of the first message of each batch of a process, which alone has the batch's id. Another process
// may replace any other message of the batch, and with it the id, before a server that was restarted reads the ids back.
func batchMarker(process string) string { return campaignSubjects + "batches." + process }

// write writes what waits. It returns false after an error: what was not written waits for the next call.
func (c *counters) write(ctx context.Context) bool {
	if time.Now().Before(c.notBefore) {
		return false
	}
	if len(c.pending) == 0 {
		c.pending = c.split(c.take())
	}
	for len(c.pending) > 0 {
		err := c.store(ctx, c.pending[0])
		c.report(ctx, err)
		if err != nil {
			return false
		}
		c.pending = c.pending[1:]
	}
	return true
}

// split makes batches.
func (c *counters) split(sums map[countKey]int64) (batches []countBatch) {
	for key, n := range sums {
		last := len(batches) - 1
		if last < 0 || len(batches[last].sums) == maxBatch-1 { // one is the marker
			c.batches++
			batches = append(batches, countBatch{c.name + "." + strconv.Itoa(c.batches), map[string]int64{}})
			last++
		}
		batches[last].sums[key.subject()] += n
	}
	return batches
}

// store tries once to store a batch. The server refuses one that it has stored already, which is a success.
func (c *counters) store(ctx context.Context, b countBatch) error {
	marker := batchMarker(c.name)
	err := c.q.refusals.during(ctx, marker, func(ctx context.Context) error {
		ctx, cancel := c.q.requestContext(ctx)
		defer cancel()
		return noAnswer(ctx, c.send(ctx, marker, b))
	})
	if hasCode(err, errCodeDuplicateInBatch) {
		return nil
	}
	return c.q.reportMissing(err)
}

// send sends the messages of a batch. The answer to the first is awaited, so that a user who may not send them is told once
// instead of once for each.
func (c *counters) send(ctx context.Context, marker string, b countBatch) error {
	attempt, sent := NewID(), 1
	message := func(subject string, n int64) *nats.Msg {
		return &nats.Msg{Subject: subject, Header: nats.Header{
			headerIncrement:             {strconv.FormatInt(n, 10)},
			jetstreamext.BatchIDHeader:  {attempt},
			jetstreamext.BatchSeqHeader: {strconv.Itoa(sent)},
		}}
	}
	first := message(marker, 1)
	first.Header[jetstream.MsgIDHeader] = []string{b.id}
	if err := c.request(ctx, first); err != nil {
		return err
	}
	for subject, n := range b.sums {
		sent++
		msg := message(subject, n)
		if sent == len(b.sums)+1 {
			msg.Header[jetstreamext.BatchCommitHeader] = []string{"1"}
			return c.request(ctx, msg)
		}
		if err := c.q.nc.PublishMsg(msg); err != nil {
			return err
		}
	}
	return nil
}

// request sends a message and awaits the answer, which is empty within a batch.
func (c *counters) request(ctx context.Context, msg *nats.Msg) error {
	resp, err := c.q.nc.RequestMsgWithContext(ctx, msg)
	if err != nil || len(resp.Data) == 0 {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(resp.Data, &answer); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// report logs once that writes fail, and once that they succeed again. An election is no failure.
func (c *counters) report(ctx context.Context, err error) {
	if err == nil {
		if c.told {
			c.q.log.Info("counts of campaigns are written again", zap.String("event", "campaign_counts_ok"))
		}
		c.failing, c.told = time.Time{}, false
		c.mu.Lock()
		defer c.mu.Unlock()
		c.full = false
		return
	}
	if c.failing.IsZero() {
		c.failing = time.Now()
	}
	refused := errors.Is(err, errNotAllowed)
	if refused && c.ctx.Err() == nil {
		c.notBefore = time.Now().Add(countDelayRefused)
	}
	if c.told || !refused && time.Since(c.failing) < c.q.cfg.waitLogAfter || ctx.Err() != nil {
		return
	}
	c.told = true
	remedy, why := c.explain(err)
	c.q.log.Warn("counts of campaigns cannot be written: messages are not affected", zap.String("event", "campaign_counts_wait"),
		zap.Error(redact(why)), zap.String("remedy", remedy))
}

// explain returns what helps after a write failed, and why it did.
func (c *counters) explain(err error) (remedy string, why error) {
	c.mu.Lock()
	fault := c.fault
	c.mu.Unlock()
	switch {
	case errors.Is(err, errNotAllowed):
		return "give this user the permissions of deploy/nats-users.conf", fmt.Errorf("%w: publish to %s", err, campaignSubjects+">")
	case fault != nil:
		return remedySetup, fault
	}
	return "see whether the stream " + StreamCampaigns + " is there and has a leader (nats stream info)", err
}

// tolerate takes an error of a look at the stream of counters. It returns nil for one that waiting does not repair: messages
// are delivered whether they are counted or not.
func (c *counters) tolerate(err error) error {
	missing := c.q.cfg.Existing && errors.Is(err, jetstream.ErrStreamNotFound)
	if err != nil && !missing && !errors.As(err, new(*StreamError)) && !errors.Is(err, errNotAllowed) &&
		!hasCode(err, errCodeStorageExceeded, errCodeInsufficientResources, errCodeNoPeers) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = err
	c.off = missing
	return nil
}
