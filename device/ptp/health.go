package ptp

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/bodyworn/ingestd/device"
)

// Health implements device.Recorder: the property BatteryLevel, and the stores. What
// the recorder refuses to tell is unknown.
func (r *Recorder) Health(ctx context.Context) (device.Health, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var health device.Health
	data, _, err := r.ask(ctx, OpGetDevicePropDesc, uint32(PropBatteryLevel))
	if err == nil {
		if p, err := ParseProperty(data); err == nil {
			health.BatteryPercent = percent(p)
		}
	}
	if err := r.fatal(ctx, err); err != nil {
		return health, fmt.Errorf("ask for the battery: %w", err)
	}
	ids, err := r.storeIDs(ctx)
	if err := r.fatal(ctx, err); err != nil {
		return health, fmt.Errorf("ask for the stores: %w", err)
	}
	var media []device.Volume
	for _, id := range ids {
		v, err := r.volume(ctx, id)
		if err != nil {
			return health, fmt.Errorf("ask for %s: %w", storeName(id), err)
		}
		health.Volumes = append(health.Volumes, v)
		if hasMedium(id) {
			media = append(media, v)
		}
	}
	health.CapacityBytes = sum(media, func(v device.Volume) *int64 { return v.CapacityBytes })
	health.FreeBytes = sum(media, func(v device.Volume) *int64 { return v.FreeBytes })
	return health, nil
}

// percent of the battery. The largest value of the range is full, the smallest is no
// power (PIMA 15740 §13.3.1); the smallest is also told by a recorder that lives on
// the cable, so that it says nothing. The values of an enumeration are thresholds: only
// if they end at 100 can they be taken for a percentage.
func percent(p Property) *int {
	least, most := p.Min, p.Max
	if !p.Ranged {
		if len(p.Listed) == 0 || slices.Max(p.Listed) != 100 || slices.Min(p.Listed) < 0 {
			return nil
		}
		least, most = 0, 100
	}
	if most <= least || p.Current <= least || p.Current > most {
		return nil
	}
	value := int(((p.Current-least)*200 + (most - least)) / (2 * (most - least)))
	return &value
}

// volume describes one store. The error is one that concerns the recorder.
func (r *Recorder) volume(ctx context.Context, id uint32) (device.Volume, error) {
	v := device.Volume{Name: storeName(id)}
	if !hasMedium(id) {
		v.Trouble = "no card in it, or none that can be read"
		return v, nil
	}
	data, _, err := r.ask(ctx, OpGetStorageInfo, id)
	var info StorageInfo
	if err == nil {
		info, err = ParseStorageInfo(data)
	}
	if err != nil {
		v.Trouble = err.Error()
		return v, r.fatal(ctx, err)
	}
	if label := strings.TrimSpace(info.Label); printable(label) {
		v.Label = device.Fact{Value: label, Source: "PTP StorageInfo"}
	}
	if info.Capacity > 0 && info.Capacity <= math.MaxInt64 { // all ones: not known
		capacity := int64(info.Capacity)
		v.CapacityBytes = &capacity
	}
	if info.Free <= math.MaxInt64 && v.CapacityBytes != nil && int64(info.Free) <= *v.CapacityBytes {
		free := int64(info.Free)
		v.FreeBytes = &free
	}
	return v, nil
}

// sum is known only if it is known of each.
func sum(volumes []device.Volume, of func(device.Volume) *int64) *int64 {
	var total int64
	for _, v := range volumes {
		part := of(v)
		if part == nil || total > math.MaxInt64-*part {
			return nil
		}
		total += *part
	}
	if len(volumes) == 0 {
		return nil
	}
	return &total
}
