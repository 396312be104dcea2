package imap

import (
	"testing"

	"hongyan/cluster/clustertest"
)

func testClientLibrary(t *testing.T, c *clustertest.Cluster) {}
func testMany(t *testing.T, c *clustertest.Cluster)          {}
func testStress(t *testing.T, c *clustertest.Cluster)        {}
