// What to type where there is nothing to show yet.

import { el } from "./dom.js";

/** Return what brings a feed its records: a command where the project has a producer for it, else its topic. */
export function records(feed, isRunning) {
  const run = el("code", {}, `make run FEEDS=${feed.name}`);
  if (feed.has_producer) {
    return isRunning ? ["Send it some: ", el("code", {}, `make produce FEED=${feed.name}`)] : ["Start the service, and a producer beside it: ", run];
  }
  const topic = el("code", {}, feed.topic);
  return isRunning ? ["Send records to its topic: ", topic] : ["Start the service: ", run, ", and send records to its topic: ", topic];
}
