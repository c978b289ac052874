"""Are the tests awake? Each of these small faults, planted in a copy of the package, must make a test fail."""

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# file, what is there, what is put in its place, the tests that must notice
MUTATIONS = [
    ("media/cut.py", "elif 0 <= index < key or (index < 0", "elif 0 <= index < key - 3 or (index < 0", "test_decode.py::test_frame_i_is_the_ith_of_a_full_decode"),
    ("media/cut.py", 'before = np.searchsorted(video.keyframes, wanted, "right") - 1',
     'before = np.searchsorted(video.keyframes, wanted, "left") - 1', "test_decode.py::test_only_what_is_needed_is_decoded"),
    ("media/cut.py", "or chosen_before or is_reference(packet, stream):", "or True:", "test_decode.py"),
    ("media/container.py", "or stream.disposition & av.stream.Disposition.attached_pic", "", "test_scan.py"),
    ("media/indexed_file.py", "if checksum(data, flags) != check:", "if False:", "test_index.py"),
    ("media/index.py", "(0xFFFFFFFF if flags & FULL else 0xFFFF)", "0xFFFF", "test_unchanged.py::test_a_packet_with_the_same_last_bits_of_its_checksum"),
    ("media/index.py", "_read_column(data, at, len(full))[0] << 16", "_read_column(data, at, len(full))[0] * 0", "test_index.py"),
    ("media/places.py", "FULL * (packet.is_keyframe or not self._rows)", "FULL * (not self._rows)",
     "test_unchanged.py::test_each_cut_has_a_whole_checksum"),
    ("media/cut.py", "            check_stamp(source[0].descriptor, video)\n", "", "test_unchanged.py"),
    ("media/cut.py", "        check()  # what was opened", "        # what was opened",
     "test_unchanged.py::test_a_file_that_is_replaced_between_the_comparison_and_opening"),
    ("media/cut.py", "        check()  # and is as it was", "", "test_unchanged.py::test_a_file_that_is_replaced_when_it_is_open"),
    ("media/unchanged.py", "        check_stamp(file, video)\n", "", "test_unchanged.py::test_a_named_pipe_in_the_place_of_a_file"),
    ("media/unchanged.py", "        check_content(file, video)\n", "", "test_unchanged.py"),
    ("media/unchanged.py", "range(NUM_PLACES):", "range(NUM_PLACES - 1):", "test_unchanged.py::test_the_digest_is_of_eight_places"),
    ("media/unchanged.py", " | os.O_NONBLOCK", "", "test_unchanged.py::test_a_named_pipe_in_the_place_of_a_file"),
    ("media/measure.py", "if not identity(stat) == identity(os.fstat(file)) == identity(path.stat()):", "if False:",
     "test_unchanged.py::test_a_file_that_changes_while_it_is_scanned"),
    ("data/known.py", 'return row["content_digest"] == content_digest(file, stat.st_size)', "return True",
     "test_unchanged.py::test_a_scan_measures_again_what_has_the_same_size_and_time"),
    ("media/indexed_file.py", "place - first : place - first + size", "place - first : place - first + size + 1", "test_index.py"),
    ("media/indexed_file.py", "if len(data) < last - first:", "if False:", "test_index.py::test_a_file_that_was_replaced_is_never_decoded"),
    ("media/index.py", 'if zlib.crc32(packed[4:]) != int.from_bytes(packed[:4], "little"):', "if False:", "test_index.py"),
    ("media/index.py", "values.cumsum() if differences else values", "values", "test_index.py"),
    ("media/references.py", "needed[:at] |= packets.flags[:at] & NON_REFERENCE == 0", "needed[:at] = True",
     "test_references.py::test_a_closure_is_what_can_be_reached"),
    ("media/places.py", "if _looks(video, frames) != _looks(indexed, frames):", "if False:", "test_index.py::test_a_scan_proves_an_index_by_decoding"),
    ("media/references.py", "pending |= references[at] << 1", "pass", "test_references.py::test_a_closure_is_what_can_be_reached"),
    ("media/references.py", "required |= closure if flags & ANCHOR or at == key else 0", "required |= 0",
     "test_references.py::test_spared_packets_are_not_in_the_closure"),
    ("media/references.py", "is_safe = all(abs(place - other) < size // 2 for other in self._counted)", "is_safe = True",
     "test_references.py::test_places_are_right_without_the_packets_that_are_left_out"),
    ("media/references.py", "if len(self._sequences) == 1 else None", "if True else None",
     "test_references.py::test_two_parameter_sets_are_too_many"),
    ("media/places.py", "if any(_spares_too_much(video, indexed, packets, keys[i]) for i in sampled):", "if False:",
     "test_references.py::test_a_scan_finds_wrong_references"),
    ("media/decode.py", "if lacking and not least:", "if False:", "test_references.py::test_lies_about_references_give_no_other_frames"),
    ("media/hevc.py", "if (used or bits.read(1)) and delta + step:", "if used and delta + step:",
     "test_references.py::test_sets_that_are_told_by_another"),
    ("media/hevc.py", "known = sets is not None and profile <= _LAST_PROFILE", "known = sets is not None",
     "test_references.py::test_a_profile_with_other_headers_is_not_read"),
    ("media/headers.py", "return bits.read(8) != 0 or bits.is_over", "return bits.read(8) != 0", "test_references.py::test_av1_pictures_that_refresh_nothing_can_be_left_out"),
    ("media/headers.py", "if kind == AV1_SEQUENCE or (kind in _AV1_FRAME_HEADERS and _av1_refreshes(unit, sequence)):", "if False:",
     "test_references.py::test_av1_pictures_that_refresh_nothing_can_be_left_out"),
    ("media/places.py", "if not _has_all(indexed, packets):", "if False:", "test_index.py"),
    ("media/places.py", "return told + at if at >= 0 else None", "return told", "test_index.py"),
    ("data/index_table.py", 'pc.add(table["packet_index"], len(first))', 'table["packet_index"]', "test_index_manifest.py"),
    ("data/index_table.py", "== name.encode() and", "is not None and", "test_index_manifest.py"),
    ("data/known.py", 'elif row["index"] is None and row["no_packet_index"] is None:', "elif False:", "test_index_manifest.py"),
    ("media/orientation.py", "left, right = width - right, width - left", "pass", "test_decode.py test_orientation.py"),
    ("media/orientation.py", "int(along[0] < 0)], None)", "0], None)", "test_orientation.py"),
    ("media/orientation.py", "return (left, top, right, bottom) if transposed", "return (top, left, bottom, right) if transposed",
     "test_orientation.py"),
    ("media/bitstream.py", "return not first_bytes or any(first >> 5 & 3 for first in first_bytes)", "return False", "test_decode.py"),
    ("media/bitstream.py", "== 0xC0", "!= 0", "test_decode.py::test_recovery_points_that_are_not_exact_are_not_trusted"),
    ("media/headers.py", "bool(show_existing or show), bool(show_existing))\n            )", "bool(show_existing or show), False)\n            )",
     "test_nvdec_cuts.py::test_one_shown_picture"),
    ("media/bitstream.py", 'if mpeg4_picture(packet) == "B":', "if False:", "test_nvdec_cuts.py"),
    ("media/remux.py", "if delay > NVDEC_DELAY_MAX:", "if False:", "test_nvdec_cuts.py::test_frames_that_are_shown_too_late_are_refused"),
    ("media/remux.py", "joinable = all(is_fresh_start(next(iter(cut.packets)), stream) for cut in cuts[1:])", "joinable = True", "test_decode.py"),
    ("media/video.py", "return (pts - pts[0]) * row[\"time_base\"]", "return pts * row[\"time_base\"]", "test_views.py"),
    ("schedule.py", "left, right = right, left ^ (_mix(right, key) & half_mask)", "left, right = right, left", "test_schedule.py"),
    ("schedule.py", "walking = values >= np.uint64(size)", "walking = values > np.uint64(size)", "test_schedule.py"),
    ("schedule.py", "low, high = self._share(min(self.step, self.num_samples - first))", "low, high = self._share(self.step)",
     "test_schedule.py"),
    ("schedule.py", "np.tile(np.arange(self.num_clips).repeat(self.repeats), len(samples))",
     "np.arange(self.num_clips).repeat(self.repeats * len(samples))", "test_make.py test_repeats.py::test_a_schedule_has_views_and_repeats_side_by_side"),
    ("rng.py", "self.repeat << 24 | np.arange(blocks)", "np.arange(blocks)", "test_repeats.py::test_draws_of_repeats_are_others_and_those_of_repeat_0_are_as_ever"),
    ("rng.py", ".batch\", repeat=self.repeat)", ".batch\")", "test_repeats.py::test_draws_of_repeats_are_others_and_those_of_repeat_0_are_as_ever"),
    ("repeats.py", "at[np.clip(partner, 0, len(at) - 1)]", "np.clip(partner, 0, len(at) - 1)", "test_repeats.py::test_clips_are_mixed_within_their_repeat"),
    ("plan.py", "batch=batch, repeat=repeat)", "batch=batch)", "test_repeats.py::test_a_clip_s_plan_depends_on_its_address_alone"),
    ("plan.py", '"repeat_index": self.repeat_index.tolist()', '"repeat_index": 0', "test_repeats.py::test_a_plan_says_which_repeat_and_is_saved_with_it"),
    ("make.py", "files = {key: remux(video, f,", "files = {key: remux(video, frames[0],", "test_hybrid.py::test_clips_of_other_frames_are_files_of_their_own"),
    ("make.py", "if pending.jobs[i].place == 0:", "if True:", "test_repeats.py::test_frames_are_decoded_once_for_all_repeats"),
    ("media/sharing.py", "groups[first] += groups.pop(other)", "groups.pop(other)", "test_repeats.py::test_groups_share_no_gop_and_cannot_be_split"),
    ("media/decode.py", "keys.append((tuple(np.asarray(frames).tolist()), box))", "keys.append((tuple(np.asarray(frames).tolist()), ()))",
     "test_repeats.py::test_clips_that_are_decoded_together_are_what_they_are_alone"),
    ("state.py", '        "repeats": schedule.repeats,\n', "", "test_repeats.py::test_resuming_in_the_middle"),
    ("scores.py", "self._scores.setdefault(number, row)", "self._scores[number] = self._scores.get(number, 0) + row",
     "test_scores.py::test_order_batches_and_duplicates_do_not_matter"),
    ("scores.py", "mine = np.setdiff1d(mine, other)", "pass", "test_scores.py::test_two_ranks"),
    ("scores.py", "by_class[labels.unique()].mean()", "by_class.mean()", "test_scores.py::test_accuracies_by_hand"),
    ("scores.py", "if self._epoch not in (None, batch.epoch):", "if False:", "test_scores.py::test_a_loader_s_views_and_repeats"),
    ("plan.py", "op.draw(draws.named(name), *sizes.T)", "op.draw(draws.named(type(op).__name__), *sizes.T)",
     "test_plan.py"),
    ("ops/sizes.py", "for field in fields:", 'for field in set(fields) & {"out_frames"}:', "test_plan.py"),
    ("ops/sizes.py", "for field in fields:", 'for field in set(fields) - {"out_frames"}:', "test_views.py"),
    ("plan.py", 'rows["partner"] = np.minimum(rows["partner"], 0)', "pass", "test_mixing_loader.py::test_one_row_of_a_plan_can_be_run"),
    ("timing.py", "op.retime(draws.named(name), frames.copy(), videos)", "op.retime(draws.named(name), frames, videos)", "test_time_ops.py"),
    ("ops/jitter.py", "np.ceil(np.where(gaps > 0", "np.floor(np.where(gaps > 0", "test_time_ops.py"),
    ("ops/speed.py", "np.where(gaps.sum(1) < 0, -1, 1)", "np.where(gaps.sum(1) < 0, 1, 1)", "test_time_ops.py"),
    ("ops/interpolate.py", "(frames - before) * _WHOLE + 0.5", "(frames - before) * _WHOLE", "test_interpolate.py"),
    ("graph.py", "max(_num_leading(self._recipe) - self._num_in_decoder, 0), blending", "_num_leading(self._recipe), blending", "test_interpolate.py"),
    ("timing.py", "(frames <= last - 1)", "(frames <= last)", "test_views.py"),
    ("plan.py", '"views": self.views.tolist()', '"views": [0] * len(self)', "test_plan.py"),
    ("plan.py", 'np.full(len(samples), document["view"])', "np.zeros(len(samples), int)", "test_views.py"),
    ("rng.py", "counter[..., 2] = self.samples[:, None]", "counter[..., 2] = np.arange(len(self))[:, None]", "test_rng.py"),
    ("rng.py", "self.epoch << 8 | self.views[:, None]", "self.epoch << 8 | 0 * self.views[:, None]", "test_rng.py"),
    ("sampling/clip.py", "last_start(room, grid) + 1)", "np.maximum(last_start(room, grid), 1))", "test_sampling.py"),
    ("batch.py", "targets = _checked_targets(", "_checked_targets(", "test_mixing_loader.py"),
    ("data/manifest.py", "values(take(self.table[name], samples))", "values(self.table[name].slice(0, len(samples)))",
     "test_views.py"),
    ("data/column.py", "back[order] = np.arange(len(rows))", "back[:] = np.arange(len(rows))", "test_large_manifest.py"),
    ("data/column.py", "found.setdefault(key, row + first)", "found[key] = row", "test_column.py"),
    ("data/column.py", "first += len(batch)", "pass", "test_large_manifest.py"),
    ("data/column.py", '[0] += row["row_count"]', '[0] = row["row_count"]', "test_large_manifest.py"),
    ("data/column.py", "take(column, rows[first : first + _STEP])", "take(column, rows[first : first + _STEP - 1])",
     "test_column.py"),
    ("data/shared.py", "checksums(file, size) + footer", "footer", "test_large_manifest.py::test_a_file_whose_labels_were_exchanged"),
    ("data/shared.py", "and os.pread(file.fileno(), length, size) == checksums(file, size)", "",
     "test_large_manifest.py::test_a_copy_that_is_damaged_anywhere"),
    ("data/shared.py", "_map(file, path, key) if _is_whole(file) else None", "_map(file, path, key)", "test_large_manifest.py::test_a_copy_that_was_cut_off"),
    ("data/shared.py", "            mmap.mmap(to.fileno(), 1, access=mmap.ACCESS_READ).close()", "            pass",
     "test_large_manifest.py::test_a_folder_that_cannot_be_mapped"),
    ("data/shared.py", "if metadata.get(b\"dali_vidaug\") != key.encode():", "if False:", "test_large_manifest.py"),
    ("data/shared.py", "if _identity(copy_path(path)) == before:", "if True:",
     "test_large_manifest.py::test_processes_that_read_at_the_same_time_write_one_copy"),
    ("data/atomic.py", "    _remove_abandoned(target)\n", "", "test_large_manifest.py::test_a_writer_that_was_killed"),
    ("data/atomic.py", "            partial.unlink(missing_ok=True)", "            pass", "test_large_manifest.py::test_a_disk_that_is_full"),
    ("data/atomic.py", "                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused", "                    pass  # refused",
     "test_atomic.py"),
    ("data/atomic.py", "-{time.time_ns():x}", "", "test_atomic.py::test_two_writers_in_one_process"),
    ("data/shared.py", "if stamp_of(file) != stamp:", "if False:", "test_large_manifest.py::test_a_manifest_that_is_written_to_while_it_is_read"),
    ("data/schema.py", "if key is not None and key_of(file) != key:", "if False:",
     "test_large_manifest.py::test_a_pickle_is_never_of_another_file"),
    ("data/schema.py", "if share(file, pq.ParquetFile(file)) is None:", "if share(file, pq.ParquetFile(file)) == 0:",
     "test_large_manifest.py::test_only_large_manifests_have_a_copy"),
    ("fingerprint.py", "pa.chunked_array([piece.flatten() for piece in pieces], kind.value_type)",
     "pa.chunked_array([piece.flatten() for piece in pieces[:1]], kind.value_type)", "test_states.py test_large_manifest.py"),
    ("data/scan.py", "listing.own.take(pa.array(positions, pa.int64()))", "listing.own.slice(0, len(good))", "test_views.py"),
    ("data/labels.py", "largest = max(numbers.values())", "largest = len(numbers) - 1", "test_labels.py"),
    ("data/labels.py", "or whole_number(text) == -1", "", "test_labels.py"),
    ("data/labels.py", "index_of[text] for text in row", "index_of[text] for text in row[:1]", "test_labels.py"),
    ("data/labels.py", "index + len(names) for text, index", "index for text, index", "test_labels.py"),
    ("data/labels.py", "names = [text] if number is None else [text, str(number)]", "names = [text]", "test_labels.py"),
    ("data/classes.py", 'Classes(classes.classes, {}, "the', 'Classes(classes.classes, {1: 1}, "the', "test_labels.py"),
    ("data/manifest.py", "row[labels or []] = 1.0", "row[(labels or [])[:1]] = 1.0", "test_labels.py"),
    ("data/split.py", "if not (index.min() >= 0 and index.max() < size):", "if not index.max() < size:", "test_manifest.py"),
    ("data/split.py", "table.filter(pa.array(mask))", "table.filter(pa.array(~mask))", "test_manifest.py"),
    ("data/split.py", "columns = [*groups, paths]", "columns = groups or [paths]", "test_manifest.py"),
    ("data/split.py", "paths = [os.path.normpath(path) for path", "paths = [path for path", "test_manifest.py"),
    ("data/split.py", "if (unit == before).all():", "if True:", "test_manifest.py"),
    ("data/split.py", "units.sizes[members].sum() + left", "units.sizes[members].sum()", "test_manifest.py"),
    ("data/split.py", "sum(count * (2 * ahead[name] + ", "sum(count * (0 * ahead[name] + ", "test_manifest.py"),
    ("data/split.py", "if mask.all() or not mask.any():", "if False:", "test_manifest.py"),
    ("data/split.py", "    if missing:", "    if False:", "test_manifest.py"),
    ("data/join.py", "    if both:", "    if False:", "test_manifest.py"),
    ("data/join.py", "if first.classes != second.classes:", "if len(first.classes) != len(second.classes):", "test_manifest.py"),
    ("data/join.py", 'path if path.startswith("/") else f"{prefix}/{path}"', 'f"{prefix}/{path}"', "test_manifest.py"),
    ("data/join.py", "(pa.types.is_signed_integer, ", "(pa.types.is_primitive, ", "test_manifest.py"),
    ("data/schema.py", "not in EXTENSIONS:", "in ('.csv',):", "test_manifest.py"),
    ("data/files.py", "pa.array([store_name(name) for name in names]", "pa.array(sorted(names)", "test_files.py"),
    ("data/names.py", "glob(f\"*/{escape(name)}\")", "glob(f\"*/{name}\")", "test_files.py"),
    ("commands/summary.py", '{row["path"]: row for row in rows}.values()', "rows", "test_files.py"),
    ("in_memory.py", "if len(other) > 1:", "if len(fits) > 1:", "test_layouts.py"),
    ("in_memory.py", "        fits = found\n", "        fits = fits if i else found\n", "test_layouts.py"),
    ("in_memory.py", '"FCHW": (0, 2, 3, 1)', '"FCHW": (0, 3, 2, 1)', "test_layouts.py"),
    ("in_memory.py", "result.permute(0, *axes).contiguous()", "result.permute(0, *axes)", "test_layouts.py"),
    ("data/segments.py", "times + shown / 2 + _ROUNDING", "times + _ROUNDING", "test_segments.py"),
    ("data/segments.py", "if entry.may_be_cut and _is_cut(length, start, end):", "if entry.may_be_cut:", "test_segments.py"),
    ("data/segments.py", "if entry.may_be_cut and _is_cut(length, start, end):", "if False:", "test_segments.py"),
    ("data/folder.py", "if real in seen:", "if item.is_symlink():", "test_folder.py"),
    ("data/names.py", 'chr(0xDC00 + int(found[1], 16))', 'chr(int(found[1], 16))', "test_folder.py"),
    ("media/first_bytes.py", 'if b"moov" in found or b"moof" in found:', "if True:", "test_first_bytes.py"),
    ("make.py", "samples[list(group)] = draws.integers", "samples[:1] = draws.integers", "test_bad_clips.py"),
    ("pending.py", "range(*np.searchsorted(groups, [groups[i], groups[i] + 1]).tolist())", "range(i, i + 1)",
     "test_repeats.py::test_a_bad_video_is_replaced_with_all_its_repeats"),
    ("pending.py", "repeat_index = self.drawn, self.drawn.views[self.kept], self.drawn.repeat_index[self.kept]",
     "repeat_index = self.drawn, self.drawn.views[self.kept], 0", "test_repeats.py::test_a_bad_video_is_replaced_with_all_its_repeats"),
    ("make.py", "if loaded.fallback:", "if False:", "test_hybrid.py"),
    ("make.py", "plan.args[name][clips[k]] for name", "plan.args[name][clips[0]] for name", "test_repeats.py::test_each_repeat_is_what_its_row_of_the_plan_gives_alone"),
    ("make.py", 'if decoder == "dali":', "if True:", "test_hybrid.py::test_on_a_gpu_hidden_pictures_are_decoded_by_pyav"),
    ("make.py", "int(pending.drawn.samples[i])", "int(pending.plan.samples[i])", "test_hybrid.py::test_replacing_ends_when_no_file_can_be_decoded"),
    ("make.py", 'if self._settings.decoder == "hybrid":', "if False:", "test_hybrid.py::test_clips_that_dali_fails_on_are_decoded_by_pyav"),
    ("report.py", "(path, why, count + num_clips)", "(path, why, count + 1)", "test_make.py::test_clips_of_a_bad_video_are_replaced_together"),
    ("report.py", "self._report.padded += int((again > 0).sum())", "self._report.padded += int(again.sum())", "test_validation.py::test_padded_clips_are_counted"),
    ("report.py", 'waited = max(0.0, seconds["wait"] - seconds["first"])', 'waited = seconds["wait"]', "test_report.py::test_any_figures_give_one_verdict"),
    ("report.py", "loading / self.num_threads / total", "loading / total", "test_report.py::test_any_figures_give_one_verdict"),
    ("report.py", "gaps * (gaps + 1) / (2 * gop)", "gaps * gaps / (2 * gop)", "test_report.py::test_frames_to_decode_with_short_gops"),
    ("report.py", "if waited <= _WAIT_MAX * total:", "if waited > _WAIT_MAX * total:", "test_report.py::test_a_slow_loop_is_the_limit"),
    ("state.py", "number = operator.index(epoch)", "number = int(epoch)", "test_make.py::test_an_epoch_is_a_whole_number"),
    ("report.py", "np.diff(np.sort(frames, axis=1), axis=1)", "np.diff(frames, axis=1)", "test_validation.py::test_distinct_frames_are_those_of_a_set"),
    ("state.py", "if number == self._resumed:", "if False:", "test_make.py::test_set_epoch_of_the_resumed_epoch_keeps_the_position"),
    ("state.py", "elif self._taken > 1:", "elif self._taken > 0:", "test_trainers.py::test_a_peek_loses_nothing"),
    ("state.py", "if self._finished or next_epoch != epoch:", "if self._finished:", "test_trainers.py::test_an_epoch_of_which_the_last_batch_was_taken_is_over"),
    ("fingerprint.py", "[map(_lengths, pieces), map(_bytes, pieces)]", "[map(_bytes, pieces)]", "test_states.py"),
    ("fingerprint.py", '"ranges": ["first_frame", "last_frame", "num_frames"]', '"ranges": ["last_frame", "num_frames"]', "test_states.py"),
    ("loader.py", "if self._position.loop != loop:", "if False:", "test_trainers.py::test_an_iterator_that_is_overtaken_raises"),
    ("loader.py", "        check_shard(self._shard)\n", "", "test_ranks.py::test_two_ranks_of_torch_distributed"),
    ("loader.py", "shard = self._shard if self._position.next[1] else None", "shard = None", "test_trainers.py::test_in_an_epoch_a_copy_keeps_its_shard_and_between_epochs_it_finds_its_own"),
    ("ranks.py", "if other.num_shards > shard.num_shards:", "if False:", "test_ranks.py"),
    ("ranks.py", 'if tasks is None and (rank > 0 or "SLURM_STEP_ID" in environ):', "if tasks is None:", "test_ranks.py"),
    ("ranks.py", "rank = local_rank + (node or 0) * (local_world or 0)", "rank = local_rank", "test_ranks.py"),
    ("ranks.py", "if not known or other is not None:", "if local_rank is None:", "test_ranks.py"),
    ("schedule.py", "count = -(-count // self.num_shards) * self.num_shards", "pass", "test_ranks.py::test_two_ranks_of_torch_distributed"),
    ("schedule.py", "(self._positions(epoch, index) >= self.num_samples)", "(self._positions(epoch, index) > self.num_samples)", "test_ranks.py::test_two_ranks_of_torch_distributed"),
    ("suitability.py", "other_time < _COPIED * looked_at", "other_time < 0", "test_states.py"),
    ("make.py", "            pending.drop(group)\n", "            pending.drop(range(i, i + 1))\n", "test_validation.py::test_all_clips_of_a_video_are_left_out_together"),
    ("media/unchanged.py", "if stat.st_size != video.bytes:", "if False:", "test_states.py"),
    ("media/unchanged.py", "now // whole == then // whole and ", "", "test_states.py::test_times_are_the_same_to_the_nanosecond_or_where_one_was_cut_to_seconds"),
    ("pending.py", "return np.delete(self.drawn.samples, self.kept)", "return np.delete(self.plan.samples, self.kept)", "test_validation.py"),
    ("producer.py", "self._schedule.repeated(epoch, index)[pending.kept]", "self._schedule.repeated(epoch, index)[: len(pending.kept)]", "test_validation.py::test_repeated_clips_are_marked_where_clips_before_them_are_left_out"),
    ("op_contract.py", "    if _global_state() != before:\n        faults.append(\"draw uses", "    if False:\n        faults.append(\"draw uses", "test_check_op.py"),
    ("op_contract.py", "if not all(same(a, b) for a, b in alone):", "if False:", "test_check_op.py"),
    ("op_contract.py", "if not (mixes or alone):", "if False:", "test_check_op.py"),
    ("settings.py", 'return ("pyav", why) if why else', 'return ("pyav", why) if False else', "test_hybrid.py"),
    ("ops/view_crops.py", "draws.views % 3, height > width", "draws.views % 3, height < width", "test_crops.py::test_three_crops_are_slowfasts"),
    ("ops/view_crops.py", "np.where(mirrored, width - rows[\"right\"], rows[\"left\"])", "rows[\"left\"]", "test_crops.py::test_five_and_ten_crops_are_torchvisions"),
    ("ops/random_crop.py", "(target <= room)", "(target > 0)", "test_crops.py::test_boxes_of_multi_scale_crop"),
    ("mapping.py", "elif (after != sizes).any():", "elif False:", "test_geometry.py::test_an_op_that_changes_the_size_without_matrices_is_refused"),
    ("suitability.py", "np.union1d(manifest.unique_sizes(), more)", "manifest.unique_sizes()", "test_crops.py::test_random_sizes_are_refused_when_a_loader_is_made"),
    ("data/known.py", 'if row["colorspace"] is None:', "if False:", "test_colors.py::test_a_scan_goes_over_what_an_older_release_did_not_measure"),
    ("recipe.py", "        self._check_views()\n", "", "test_crops.py::test_crops_by_the_view_need_such_views"),
    ("media/convert.py", ":out_color_matrix={matrix}", "", "test_colors.py::test_scaled_colours_are_right_too"),
    ("media/colors.py", "if video.colorspace is None:", "if False:", "test_colors.py::test_a_matrix_that_is_not_known_beforehand_is_for_pyav"),
    ("media/measure.py", "if len(colorspaces) == 1 else None", "if colorspaces else None", "test_colors.py::test_a_matrix_that_changes_is_not_known"),
    ("make.py", "decode_clips(video, frames, crops, color)", "decode_clips(video, frames, crops)", "test_colors.py::test_clips_of_a_batch_have_colours_of_their_own"),
    ("ops/blend.py", "(1 - own) * targets[partner]", "(1 - own) * targets", "test_mixing_loader.py"),
    ("ops/blend.py", "skip = np.flatnonzero(is_neutral(rows)).tolist()", "skip = np.flatnonzero(~is_neutral(rows)).tolist()", "test_blend.py"),
    ("ops/blend.py", "        _check_sizes(rows, sizes)\n", "", "test_blend.py"),
    ("ops/blend.py", "& ~is_neutral(rows)", "", "test_mixing_loader.py"),
    ("ops/sizes.py", "check_crops(name, args, sizes)", "pass", "test_edited_plans.py"),
    ("ops/sizes.py", "op.check(args, *sizes.T)", "pass", "test_edited_plans.py"),
    ("errors.py", "        raise OpError(", "        raise type(error)(", "test_op_errors.py"),
    ("graph.py", '    with naming(name, op, "build"', '    with naming(name, op, "draw"', "test_op_errors.py"),
    ("rng.py", "return array.reshape(-1, 1)", "return array.reshape(-1, 1)[:1]", "test_op_errors.py"),
    ("rng.py", "self.words(purpose, 1 if n is None else n) * 2.0**-32", "self.words(purpose, n or 1) * 2.0**-32", "test_op_errors.py"),
    ("rng.py", "good = (1 <= limit)", "good = (0 <= limit)", "test_op_errors.py"),
    ("ops/sizes.py", "after[:, _SIDES[field]] = sides", "pass", "test_plan.py"),
    ("ops/mix.py", "np.roll(order, -1)", "np.roll(order, 0)", "test_mix.py::test_partners_are_others_and_everyone_equally_often"),
    ("ops/mix.py", "common = draws if self.granularity", "common = draws.of_batch() if self.granularity", "test_mix.py"),
    ("ops/mix.py", "drawn >= 0.5, outside", "drawn < 0.5, outside", "test_mix.py::test_a_weight_is_compared_with_one_half_before_it_is_rounded"),
    ("ops/mix.py", "drawn >= 0.5, outside", "1 - outside >= 0.5, outside", "test_mix.py::test_a_weight_is_compared_with_one_half_before_it_is_rounded"),
    ("ops/mix.py", "share**in_time)", "share)", "test_mix.py"),
    ("ops/erase.py", "(area * ratio, area / ratio)", "(area / ratio, area * ratio)", "test_erase.py"),
    ("ops/one_of.py", "rows[choice == i] = drawn[choice == i]", "rows[choice == i] = drawn[choice == 0][:1]", "test_mix.py::test_only_partners_depend_on_the_batch"),
    ("ops/normalize.py", 'mirror=args["mirrored"] if "mirrored" in args else 0', "mirror=0", "test_planes.py::test_values_are_dalis"),
    ("direct.py", 'args[self._last]["mirrored"] != 0 if self._last else', "np.ones(len(clips), bool) if self._last else", "test_planes.py::test_flips_and_levels_with_and_without_normalisation"),
    ("direct.py", "given = [read_only(clip) for clip in clips]", "given = clips", "test_direct.py::test_what_run_returns_is_checked"),
    ("direct.py", 'mirror(clips, args[name]["mirrored"] != 0,', 'mirror(clips, args[name]["mirrored"] == 0,', "test_direct.py::test_rows_of_ops_are_the_same_with_dali_and_without"),
    ("direct.py", "                    check(clips, name)\n", "                    pass\n", "test_direct.py::test_a_size_that_a_later_op_would_hide"),
    ("direct.py", "        if tuple(shape) != (3, *size):", "        if False:", "test_own_ops.py"),
    ("media/convert.py", "            mirror_frame(out)\n", "            pass\n", "test_hybrid.py::test_a_flip_after_the_crops"),
    ("graph.py", "not all(hasattr(op, \"lookup\") for _, op in following[1:])", "False", "test_direct.py::test_a_flip_before_other_ops_is_done_in_the_decoder"),
    ("direct.py", "np.ascontiguousarray(clip)", "clip", "test_direct.py::test_a_size_that_a_later_op_would_hide"),
    ("ops/random_apply.py", "np.flatnonzero(flags).tolist()", "range(len(clips))", "test_random_apply.py::test_some_clips_are_changed_as_the_op_changes_them_and_the_others_are_not"),
    ("recycled.py", "array = np.frombuffer(memoryview(memory)[start : start + size], dtype)", "array = memory[start : start + size].view(dtype)", "test_planes.py::test_memory_is_used_again_when_nothing_is_left_of_an_array"),
    ("ops/flip.py", 'horizontal=args["mirrored"]',
     'horizontal=args["mirrored"].gpu() if clips.device == "gpu" else args["mirrored"]', "test_gpu_graph.py"),
    ("ops/crop.py", "return fn.slice(", 'return (fn.slice if clips.device == "cpu" else fn.slise)(', "test_gpu_graph.py"),
    ("ops/suites.py", '"TranslateX": (0, 150 / 331, True)', '"TranslateX": (0, 0.45, True)', "test_torchvision.py::test_each_op_of_randaugment_has_torchvisions_pixels"),
    ("ops/suites.py", '"SolarizeAdd"), 30, 5.0, 0.0', '"SolarizeAdd"), 30, 9.0, 0.5', "test_randaugment.py"),
    ("ops/check.py", "isinstance(value, tuple) and len(value) == 2", "isinstance(value, tuple)", "test_options.py"),
    ("ops/randaugment.py", 'if row["num_values"] != num_values:', "if False:", "test_edited_plans.py"),
    ("ops/operator.py", "_on_dali_stream(call) if on_gpu else call", "call", "test_operator.py"),
    ("ops/operator.py", "            stream.ptr = 0\n", "", "test_operator.py"),
    ("ops/operator.py", "            cuda.runtime.setDevice(inputs[0][0].data.device_id)\n", "", "test_operator.py"),
    ("ops/operator.py", "            with stream:\n", "            if True:\n", "test_operator.py"),
    ("ops/operator.py", "num_threads=args.num_threads)", "num_threads=1)", "test_operator.py"),
    ("ops/operator.py", "(node.gpu() if on_gpu else node for node in rows)", "rows", "test_gpu_graph.py"),
    ("geometry.py", "x - cosine * x - -sine * y", "x - cosine * x + -sine * y", "test_geometry.py"),
    ("geometry.py", "(m[..., 0] + m[..., 1]) / 2", "(m[..., 0] + m[..., 1])", "test_geometry.py"),
    ("geometry.py", "[mapped.min(-2), mapped.max(-2)]", "[mapped[..., 0, :], mapped[..., 2, :]]",
     "test_geometry.py::test_boxes_are_torchvisions"),
    ("mapping.py", "product = product @ one", "product = one @ product", "test_geometry.py::test_the_matrices_of_a_plan_are_those_of_its_ops"),
    ("mapping.py", "        sizes = after\n", "", "test_geometry.py::test_the_matrices_of_a_plan_are_those_of_its_ops"),
    ("ops/flip.py", "np.where(mirrored, width, 0)", "np.where(mirrored, width - 1, 0)", "test_geometry.py"),
    ("ops/randaugment.py", "product = product @ one", "product = one @ product",
     "test_geometry.py::test_chains_have_the_matrices_of_their_passes"),
    ("ops/affine.py", "geometry.is_convex(end).all(1)", "geometry.is_convex(end).any(1)", "test_warp.py::test_tiny_frames_have_a_perspective_or_none"),
    ("ops/camera.py", "needed.max(1)", "needed.mean(1)", "test_warp.py::test_a_covered_camera_shows_nothing_from_outside_and_no_more_than_it_must"),
    ("ops/warp.py", 'if row["num_matrices"] != num or not (num == 1 or num >= size[0]):', "if False:",
     "test_warp.py::test_edited_rows_that_do_not_fit_are_refused"),
    ("ops/shift.py", "if not inside.all():", "if False:", "test_warp.py::test_moving_crops_keep_the_contract"),
    ("ops/shift.py", "= count, AT_THE_EDGE", "= count, 1", "test_warp.py"),
    ("kernels.py", '_, table["src_height"], table["src_width"], _', '_, table["src_width"], table["src_height"], _', "test_warp.py"),
    ("kernels.py", "-(-int(part.max()) // _ROWS_PER_BLOCK)", "int(part.max()) // _ROWS_PER_BLOCK", "test_launch.py"),
    ("kernels.py", "range(0, len(rows), _MAX_GRID_Y)", "range(0, len(rows), _MAX_GRID_Y + 1)", "test_launch.py"),
    ("kernels.py", "rows[first : first + _MAX_GRID_Y]", "rows[first : first + _MAX_GRID_Y - 1]", "test_launch.py"),
    ("kernels.py", "clips[first * CLIP.itemsize :]", "clips[first:]", "test_launch.py"),
    ("kernels.py", "height * width * 3) > 2**30", "height * width) > 2**30", "test_launch.py"),
    ("kernels.py", "(part, np.int32(index))", "(part,)", "test_nvrtc.py::test_the_launcher_passes_what_the_kernels_take"),
    ("kernels.py", "(part, np.int32(index))", "(np.int32(index), part)", "test_nvrtc.py"),
    ("kernels.py", "(part, np.int32(index))", "(part, np.int64(index))", "test_nvrtc.py::test_the_launcher_passes_what_the_kernels_take"),
    ("kernels.py", '("src", "u8"),\n        ("dst", "u8"),', '("dst", "u8"),\n        ("src", "u8"),', "test_nvrtc.py"),
    ("kernels.py", "np.arange(len(clips)), len(clips)", "np.arange(len(clips)), len(clips) + 1", "test_launch.py"),
    ("kernels.py", "cupy.empty(size, np.uint8)", "cupy.empty(size, np.uint8, pinned=True)", "test_launch.py"),
    ("kernels.py", "num_threads or len(os.sched_getaffinity(0))", "len(os.sched_getaffinity(0))", "test_kernels.py"),
    ("graph.py", 'where = "mixed" if self._settings.device == "gpu" else "cpu"', "where = self._settings.device", "test_gpu_graph.py"),
    ("graph.py", 'return clips.gpu() if self._settings.device == "gpu" else clips', "return clips", "test_gpu_graph.py"),
    ("graph.py", "flip or self._columns[name]", "self._columns[name]", "test_gpu_graph.py::test_cpu_and_gpu_have_the_same_graph_except_for_the_device_and_the_last_step"),
    ("graph.py", "for name, op in self._recipe.pixel_ops[: self._num_in_decoder]:",
     "for name, op in ():", "test_hybrid.py"),
    ("graph.py", "others = others.gpu() if self._settings", "others = others if self._settings", "test_gpu_graph.py"),
    ("graph.py", "np.maximum(np.cumsum(encoded) - 1, 0)", "np.arange(len(files))", "test_repeats.py::test_repeat_0_is_the_clip_without_repeats"),
    ("graph.py", "[file is not _NO_FILE for file in files]", "[file is _NO_FILE for file in files]", "test_hybrid.py"),
    ("graph.py", "            self._done.synchronize()\n", "            pass\n", "test_streams.py"),
    ("graph.py", "columns.check(args[name])", "pass", "test_own_ops.py"),
    ("graph.py", "            check(clips, self._last)\n", "            pass\n", "test_own_ops.py"),
    ("graph.py", "self._measured[steps[i - 1][0]] = clips.shape()", "pass", "test_own_ops.py"),
    ("plan.py", "if set(self.args) != set(self.recipe.names):", "if False:", "test_edited_plans.py"),
    ("make.py", "plan.check(*self.manifest.frame_sizes(plan.samples))", "pass", "test_edited_plans.py"),
    ("batch.py", '"manifest": None}', "}", "test_apply.py::test_a_pickled_batch_does_not_carry_the_manifest"),
    ("batch.py", "targets.shape != shape or ", "", "test_own_ops.py"),
    ("loader.py", "            self._background.stop_producer()\n", "            self.close()\n", "test_apply.py"),
    ("device/decoders.py", "None if reasons[f] else sizes.add(f)", "None", "test_decoders.py"),
    ("device/decoders.py", "_sent_to_nvdec[device_id] = sizes", "pass", "test_decoders.py"),
    ("device/nvdec.py", "heights - {height}", "heights", "test_nvdec.py"),
    ("device/nvdec.py", "widths | {width}", "[width]", "test_nvdec.py"),
    ("device/nvdec.py", ", self._coded.get(size))", ", None)", "test_nvdec.py"),
    ("commands/pictures.py", 'op.undo(clips) if hasattr(op, "undo") else clips', "clips", "test_pictures.py"),
    ("commands/pictures.py", 'if f"{kept:.3f}" not in ("0.000", "1.000"):', "if True:", "test_pictures.py::test_no_strip_shows_a_mix_of_nothing"),
    ("commands/options.py", "if not self.low <= value <= self.high:", "if not value <= self.high:", "test_command_options.py"),
    ("commands/preview.py", "if max(rows, default=0) >= len(manifest):", "if False:",
     "test_command_options.py::test_a_row_that_a_manifest_does_not_have_is_a_wrong_option"),
    ("description.py", "        seen.add(position)\n", "", "test_description.py"),
    ("description.py", "plan.views[twice], name, group, repeat)", "plan.views[twice], name, 0, repeat)", "test_description.py"),
    ("ops/one_of.py", 'if field != "partner"]', "if False]", "test_description.py::test_no_op_is_named_for_a_row_that_was_edited"),
    ("plan.py", "frames, args, manifest, repeat_index)", "frames, args, None, repeat_index)", "test_description.py::test_describe_names_file_and_class"),
    ("batch.py", 'if dtype == "bfloat16" and tensor.is_floating_point()', "if False", "test_planes.py::test_floats_of_dali_become_bfloat16"),
    ("settings.py", "gpu.problem(device_id)", "gpu.problem()", "test_settings.py"),
    ("settings.py", "or driver.read_driver().error is not None", "", "test_settings.py::test_a_rank_whose_own_gpu_does_not_work_says_so"),
    ("__init__.py", "return list(__all__)", "return sorted({*globals(), *__all__})", "test_api.py"),
    # What a container says is proven.
    ("media/measure.py", "if deep or packets.oddity else", "if deep else", "test_dirty_files.py::test_a_file_that_begins_in_the_middle_of_a_gop_is_not_refused"),
    ("media/prove.py", "if failure is None or (failure.frame > key and failure.is_reported):", "if True:", "test_dirty_files.py::test_key_flags_that_lie"),
    ("media/decode.py", 'codec.options = {"err_detect": "explode"}', "pass", "test_dirty_files.py::test_damage_is_reported"),
    ("media/decode.py", "if frame.is_corrupt:", "if False:", "test_dirty_files.py::test_damage_behind_a_key_frame_that_does_not_begin_afresh"),
    ("media/convert.py", "<= 0.9 * from_size", "<= 1.0 * from_size", "test_decode.py::test_planes_put_together_equal_packed_rgb"),
    ("media/decode.py", "if why := damage_of(video.codec, packet):", "if why := None:", "test_dirty_files.py::test_checksums_of_ffv1"),
    ("media/packets.py", "return None if self._headers.are_valid(packet) else", "return None if True else",
     "test_dirty_files.py::test_flipped_bits_in_headers_of_jpeg"),
    ("media/headers.py", "bool(marker and second and coded)", "bool(marker and second)", "test_dirty_files.py::test_long_packets_of_pictures_that_are_not_coded"),
    ("media/prove.py", "if not damaged and (why := _differs_packed(proven, truth)):", "if False and (why := ''):",
     "test_dirty_files.py::test_a_deep_scan_decodes_what_is_packed_for_dali"),
    ("media/numbers.py", "self._order.add(now.order, 1 << sequence.order_bits, pts, now.is_reference)", "pass",
     "test_dirty_files.py::test_stamps_of_neighbours_exchanged"),
    ("media/numbers.py", "self._order.add(low, 1 << self._sequence.order_bits, packet.pts, counts)", "pass",
     "test_dirty_files.py::test_stamps_of_neighbours_exchanged"),
    ("media/hevc.py", "order_bits = bits.unsigned() + 4", "order_bits = bits.unsigned() + 3",
     "test_dirty_files.py::test_stamps_of_neighbours_exchanged"),
    ("media/cut.py", "except (av.error.FFmpegError, OSError):", "except ZeroDivisionError:", "test_dirty_files.py::test_files_that_cannot_be_sought_are_read_from_the_start"),
    ("data/segments.py", "return segment if (start, end) == (first, last) else", "return segment if True else", "test_scan.py"),
    ("media/prove.py", "damaged.append((last, end))", "pass", "test_dirty_files.py::test_damage_is_reported"),
    ("sampling/grid.py", "steps = np.floor(edges + (0.5 + TINY))", "steps = np.rint(edges)", "test_time_grid.py::test_the_nearest_frame_of_a_grid"),
    ("sampling/grid.py", "edges = (times - times[0]) * fps", "edges = times * fps", "test_time_grid.py::test_parts_of_a_video_count_from_their_first_frame"),
    ("sampling/grid.py", "positions[i] + TINY, side", "positions[i], side", "test_time_grid.py::test_the_videos_own_rate_is_sampling_by_index"),
    ("sampling/grid.py", "key = id(times), first, last", "key = 0, first, last", "test_time_grid.py"),
    ("sampling/clip.py", "keys[keys <= max(last_start(room, grid)[i], 0.0) + TINY]", "keys[keys < last_start(room, grid)[i]]",
     "test_samplers.py"),
    ("sampling/snippets.py", "if self.per_clip > 1 and plan.recipe.time_ops:", "if False:", "test_samplers.py"),
    ("sampling/clip.py", 'np.exp(draws.uniform("speed", *np.log(self.speed)))', 'draws.uniform("speed", *self.speed)', "test_samplers.py"),
    ("sampling/segments.py", "random * (high - low + 1)", "random * (high - low)", "test_samplers.py"),
    ("sampling/multi.py", "number = draws.views % self.num_clips // self.num_crops", "number = draws.views % self.num_clips", "test_samplers.py"),
    ("sampling/multi.py", "np.zeros_like(number) if", "number if", "test_samplers.py"),
    ("sampling/around.py", "<= seconds < end + TINY", "<= seconds", "test_samplers.py"),
    ("sampling/snippets.py", "number < every", "number < every + 1", "test_samplers.py"),
    ("sampling/peers.py", "frames % length[:, None]", "np.minimum(frames, length[:, None] - 1)", "test_peer_samplers.py"),
    ("sampling/peers.py", "np.maximum(length - size, 1)", "np.maximum(length - size + 1, 1)", "test_peer_samplers.py"),
    ("data/sampled.py", "~(known[0] | known[1])", "~known[0]", "test_time_grid.py"),
    ("commands/timeline.py", "max((len(video) - 1) // max(count - 1, 1), 1)", "1", "test_timeline.py"),
    ("commands/timeline.py", "interpolate_rows(frames), count)", "interpolate_rows(frames.round()), count)", "test_timeline.py"),
    ("commands/timeline.py", "top = _draw_video(picture", "_ = _draw_video(picture",
     "test_timeline.py"),
    # Colour, blur, frames of a clip blended with each other, a probability for any op.
    ("ops/color.py", "center[:, None] + away[..., None] * share", "center[:, None] + np.abs(away)[..., None] * share",
     "test_color.py::test_ramps_keep_their_side_and_do_not_leave_the_range"),
    ("ops/color.py", "span = np.where(away < 0, center - low, high - center)", "span = high - low",
     "test_color.py::test_ramps_keep_their_side_and_do_not_leave_the_range"),
    ("ops/color.py", 'or codes.count(CODES.index("contrast")) > 1', "", "test_color.py::test_edited_plans_are_checked"),
    ("ops/color_jitter.py", "np.take_along_axis(values, order[..., None], 1)", "values", "test_torchvision.py::test_color_jitter_and_grayscale_are_torchvisions"),
    ("ops/color_jitter.py", 'rows["per_clip"] = self.statistics == "clip"', 'rows["per_clip"] = True',
     "test_torchvision.py::test_color_jitter_and_grayscale_are_torchvisions"),
    ("ops/exposure.py", "at * at * (3 - 2 * at)", "at * at", "test_exposure.py::test_an_exposure_ramp_goes_from_one_factor_to_another"),
    ("ops/exposure.py", 'rows["key"] = draws.words("key", 2)', "pass", "test_exposure.py::test_noise_has_the_deviation_that_was_asked_for_and_no_pattern"),
    ("ops/blur.py", "np.ceil(3 * sigma.max((1, 2)))", "np.ceil(2 * sigma.max((1, 2)))", "test_blur.py::test_sigma_is_uniform_and_the_window_follows"),
    ("ops/blur.py", "num_values < most", "False", "test_blur.py::test_edited_plans_are_checked"),
    ("ops/motion.py", "(window - 1) // 2, window // 2", "window // 2, window // 2", "test_motion.py::test_windows_are_uniform_and_lie_around_their_frame"),
    ("ops/motion.py", 'draws.integers("frame", np.maximum(frames, 1))', 'draws.integers("frame", num_frames)', "test_motion.py::test_frames_and_weights_are_uniform"),
    ("ops/random_apply.py", "found[~flags] = np.eye(3)", "pass", "test_random_apply.py::test_boxes_of_clips_that_are_left_alone_do_not_move"),
    ("ops/random_apply.py", "np.where(flags[:, None], changed, targets)", "changed", "test_random_apply.py::test_some_clips_are_changed_as_the_op_changes_them_and_the_others_are_not"),
    ("ops/random_apply.py", "self.op.check(inner[flags], frames[flag", "self.op.check(inner, frames[flag", "test_random_apply.py::test_edited_arguments_are_checked_where_they_are_applied"),
    ("ops/random_apply.py", 'while f"{self._flag}_2" in args:', "while False:", "test_random_apply.py::test_some_clips_are_changed_as_the_op_changes_them_and_the_others_are_not"),
]  # fmt: skip
COPIED = (
    "dali_vidaug",
    "kernels",
    "tests",
    "docs",
    "benchmarks",
    "examples",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
)


class Forks:
    """A process that imports what takes seconds once, and runs pytest in forks of itself, one after the other."""

    def __init__(self):
        command = [sys.executable, str(ROOT / "tests" / "forked_pytest.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, **job):
        """The exit code of a job."""
        self._process.stdin.write(f"{json.dumps(job)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


_forks = threading.local()


def run_tests(folder, started, tests, file=None, old="", new=""):
    """Run test files in a copy of the project, which may have a fault: their exit code, and what they printed."""
    if not hasattr(_forks, "mine"):
        _forks.mine = Forks()
        started.append(_forks.mine)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    if file:
        target = folder / "dali_vidaug" / file
        text = target.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        target.write_text(text.replace(old, new))
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *(f"tests/{name}" for name in tests.split())]
    output = folder / "output.txt"
    code = _forks.mine.run(folder=str(folder), arguments=arguments, output=str(output), seconds=600)
    printed = output.read_text(errors="replace")
    shutil.rmtree(folder)
    return code, printed


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """The runs that the selected tests look at, several at the same time: by parameters, a future."""
    chosen = [item.callspec.params for item in request.session.items if item.path == Path(__file__)]
    started = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {tuple(p.values()): pool.submit(run_tests, tmp_path_factory.mktemp("copy"), started, **p) for p in chosen}
    for forks in started:
        forks.close()


@pytest.mark.parametrize("file, old, new, tests", MUTATIONS, ids=lambda x: str(x)[:40])
def test_a_fault_can_be_planted(file, old, new, tests):
    """What is replaced is there once, and the tests exist: seen in a moment, not only when the faults are planted."""
    assert (ROOT / "dali_vidaug" / file).read_text().count(old) == 1
    for test in tests.split():
        name, _, function = test.partition("::")
        assert f"def {function}" in (ROOT / "tests" / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("tests", ["test_layers.py test_api.py test_plan.py test_rng.py test_sampling.py"])
def test_without_a_fault_the_tests_pass(tests, runs):
    """Otherwise a fault that nobody notices would seem to be noticed. These need what is copied; all would take long."""
    code, printed = runs[(tests,)].result()
    assert code == 0, printed[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("file, old, new, tests", MUTATIONS, ids=lambda x: str(x)[:40])
def test_a_planted_fault_is_noticed(file, old, new, tests, runs):
    code, printed = runs[file, old, new, tests].result()
    assert code == 1, f"no test noticed:\n{printed[-2000:]}"
