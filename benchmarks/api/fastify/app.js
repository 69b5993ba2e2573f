// Fastify, on Node: the framework validates by JSON schema. node app.js PORT
"use strict";

const app = require("fastify")();
const users = new Map();

const userId = { type: "integer", minimum: 0, maximum: 2 ** 53 - 1 };
const name = { type: "string", minLength: 1, maxLength: 100 };
const age = { type: "integer", minimum: 0, maximum: 150 };
const object = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
});
const params = object({ user_id: userId });
const user = object({ user_id: { type: "integer" }, name: { type: "string" }, age: { type: "integer" } });
const answer = (status) => ({ [status]: user });

const missing = (reply, id) => reply.code(404).send({ detail: `User ${id} not found` });

app.setErrorHandler((error, _request, reply) => {
  reply.code(error.validation ? 422 : 500).send({ detail: error.message });
});

app.get("/health", async () => ({ status: "healthy" }));

app.post(
  "/users/",
  { schema: { querystring: object({ user_id: userId, name, age }), response: answer(201) } },
  async (request, reply) => {
    const { user_id, name, age } = request.query;
    if (users.has(user_id)) {
      return reply.code(409).send({ detail: `User ${user_id} already exists` });
    }
    users.set(user_id, { name, age });
    reply.code(201);
    return { user_id, name, age };
  },
);

app.get("/users/:user_id", { schema: { params, response: answer(200) } }, async (request, reply) => {
  const { user_id } = request.params;
  const found = users.get(user_id);
  if (!found) return missing(reply, user_id);
  return { user_id, name: found.name, age: found.age };
});

app.get("/users/", async () => Object.fromEntries(users));

app.put(
  "/users/:user_id",
  { schema: { params, querystring: object({ name, age }), response: answer(200) } },
  async (request, reply) => {
    const { user_id } = request.params;
    const { name, age } = request.query;
    if (!users.has(user_id)) return missing(reply, user_id);
    users.set(user_id, { name, age });
    return { user_id, name, age };
  },
);

app.delete("/users/:user_id", { schema: { params } }, async (request, reply) => {
  const { user_id } = request.params;
  if (!users.delete(user_id)) return missing(reply, user_id);
  return reply.code(204).send();
});

app.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
