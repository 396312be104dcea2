package placement

const (
	// fewVoters is how many voters a group gets as a rule: with one in each of three regions, any one region may be lost.
	fewVoters = 3

	// manyVoters is how many it gets where they can be spread over regions by perRegion at most: two at home, two in the next
	// region, one in the third. A commit then waits for the nearest region only, also while one node is away.
	manyVoters = 5
	perRegion  = 2
)

// quotas says how many voters of a group each region gets. order is the regions as seen from the group's home, room how many
// nodes of a region may have a replica.
//
// Five voters need regions that take two, two and one, or more evenly still. With three nodes, one and one that
// cannot be had: of five voters one region would have three, a majority, so it is three voters, one in each.
func quotas(order []string, room func(region string) int) map[string]int {
	q := make(map[string]int)
	wide := 0
	for _, r := range order {
		wide += min(room(r), perRegion)
	}
	if wide >= manyVoters {
		left := manyVoters
		for _, r := range order {
			q[r] = min(room(r), perRegion, left)
			left -= q[r]
		}
		return q
	}
	for left, took := fewVoters, true; left > 0 && took; {
		took = false
		for _, r := range order {
			if left > 0 && q[r] < room(r) {
				q[r]++
				left--
				took = true
			}
		}
	}
	return q
}
