package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"hongyan/cluster/command"
)

// checkpoint saves all shards.
func (s *session) checkpoint() command.Command {
	return command.Command{
		Name: "checkpoint", Summary: "save every shard that changed into volumes now, as before work on the nodes",
		Example: "hongyan admin checkpoint --dir .hongyan",
		Run: func(ctx context.Context, words []string, out io.Writer) error {
			if len(words) > 0 {
				return command.Usagef("unexpected word %q", words[0])
			}
			var raw json.RawMessage
			if err := s.call(ctx, "POST", "/api/v1/checkpoints", nil, &raw); err != nil {
				return err
			}
			var reply struct {
				Checkpoints []struct {
					Shard   uint32 `json:"shard"`
					Applied uint64 `json:"applied"`
					Taken   int64  `json:"taken"`
					Bytes   uint64 `json:"bytes"`
				} `json:"checkpoints"`
			}
			if err := json.Unmarshal(raw, &reply); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			return s.print(out, raw, func() error {
				var rows [][]string
				for _, c := range reply.Checkpoints {
					rows = append(rows, []string{fmt.Sprint(c.Shard), fmt.Sprint(c.Applied), time.Unix(c.Taken, 0).UTC().Format(time.DateTime), fmt.Sprint(c.Bytes)})
				}
				return command.Table(out, "SHARD APPLIED TAKEN BYTES", rows)
			})
		},
	}
}
