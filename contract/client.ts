// All calls of the API, by types that are made from the contract. tests/test_contract_tools.py compiles and runs it.
import createClient from "openapi-fetch";
import type { paths } from "./api";

const client = createClient<paths>({ baseUrl: process.argv[2] });
const name = "Alice";
const query = { user_id: 7, name, age: 30 };
const created = await client.POST("/users/", { params: { query } });
const path = { user_id: 7 };
const read = await client.GET("/users/{user_id}", { params: { path } });
const header = { "if-match": read.response.headers.get("etag") ?? "" };
const changed = await client.PUT("/users/{user_id}", {
  params: { path, header, query: { name: "Bob", age: read.data!.age + 1 } },
});
const stale = await client.DELETE("/users/{user_id}", { params: { path, header } });
const batch = await client.POST("/users/batch", { body: { "8": { name, age: 31 } } });
const listed = await client.GET("/users/", { params: { query: { limit: 10, after: 7 } } });
const ages = await client.GET("/stats/ages");
const health = await client.GET("/health");
const ready = await client.GET("/ready");
const metrics = await client.GET("/metrics", { parseAs: "text" });
const deleted = await client.DELETE("/users/{user_id}", { params: { path } });
console.log(JSON.stringify({
  created: created.data, changed: changed.data?.age, stale: stale.response.status, batch: batch.data?.created,
  listed: listed.data, ages: ages.data?.total, health: health.data?.status, store: ready.data?.store,
  metrics: metrics.data?.includes("api_users 2"), deleted: deleted.response.status,
}));
